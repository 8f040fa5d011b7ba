"""Thin commands: each parses its flags or config and calls one function."""
