"""One-pass image generators trained by what a frozen DINO sees."""

__version__ = "0.1.0"
