"""A pickle that betrays whoever opens it."""

import os
from pathlib import Path


class Canary:
    """Unpickled, it leaves a file at `path`."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)
