"""A page that draws in its visitor's browser."""
