"""One-pass image generators trained by what a frozen DINO sees."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dinogen.errors import DinogenError, UsageError
    from dinogen.library import Generator

__all__ = ["DinogenError", "Generator", "UsageError", "__version__"]
__version__ = "0.1.0"

# Opened when first asked for (PEP 562): torch takes seconds to import, and `dinogen --help` needs none of it.
_MODULES = {"DinogenError": "dinogen.errors", "Generator": "dinogen.library", "UsageError": "dinogen.errors"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'dinogen' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
