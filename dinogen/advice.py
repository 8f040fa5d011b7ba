"""What people are told: commands to run next that work as printed, and numbers of things."""

import re
import shlex
from pathlib import Path


def command_line(verb: str, **flags: object) -> str:
    """A command to run next, its values quoted for a shell; a list is several values, True none."""
    words = ["dinogen", verb]
    for key, value in flags.items():
        values = value if isinstance(value, list | tuple) else [] if value is True else [value]
        words += [f"--{key if '.' in key else key.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def to_open(page: Path) -> str:
    """The advice to look at a page."""
    return f"open {shlex.quote(str(page))} in a browser"


def sibling(folder: str | Path, old: str, new: str) -> Path:
    """Where the next step may write: beside `data/crops` it is `data/shards`, beside `data/mine` `data/mine-shards`."""
    path = Path(folder) if Path(folder).name else Path(folder).resolve()
    stem = path.name.removesuffix(old)
    return path.with_name(stem + new if stem != path.name else f"{stem}-{new}")


def counted(number: int, name: str) -> str:
    """`1 shard`, `2 shards`."""
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def no_folder(given: str | Path, takes: str) -> str:
    """What to say of a path that ought to be a folder: a file of the folder that is meant, or nothing.

    Args:
        given: the path.
        takes: what the flag takes.
    """
    path = Path(given)
    if path.parent.is_dir() and (path.is_file() or path.suffix in (".tar", ".json", ".safetensors")):
        return f"{given}: not a folder; give its folder, {path.parent}"
    return f"{given}: no such folder; {takes}"


def public_name(name: str) -> str:
    """A hub id as it is, and of a folder the last part: where it lies on this machine is nobody's business."""
    return name if re.fullmatch(r"[\w.-]+/[\w.-]+", name) else Path(name).name
