"""One-pass image generators trained by what a frozen DINOv2 sees."""

__version__ = "0.1.0"
