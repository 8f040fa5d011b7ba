"""How the commands speak: help without the names of types, and one plain line for what cannot be parsed."""

import argparse
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from jsonargparse import Namespace

PLAIN_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}


class PlainHelp(argparse.HelpFormatter):
    """Flags with what they do and their defaults; no types.

    Args:
        prog: the command.
        defaults: of each key.
        required: keys that must be given.
    """

    def __init__(self, prog: str, defaults: Namespace | Mapping[str, object], required: Collection[str]):
        super().__init__(prog, max_help_position=32)
        self.defaults, self.required = defaults, required

    def _format_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: object, prefix: object
    ) -> str:
        needed = [self._format_action_invocation(action) for action in actions if action.dest in self.required]
        return f"usage: {' '.join([self._prog, *needed])} [flags]\n\n"

    def _format_action_invocation(self, action: argparse.Action) -> str:
        names = ", ".join(as_flag(name) for name in action.option_strings if not name.endswith("+"))
        if action.nargs == 0:
            return names
        name = action.dest.rpartition(".")[2].upper() if action.metavar is None else action.metavar
        if choices := choices_of(action):
            name = "|".join(choices)
        return f"{names} {self._format_args(action, str(name))}".strip()

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Callable[[int], tuple[str, ...]]:
        return lambda size: (default_metavar,) * size

    def _expand_help(self, action: argparse.Action) -> str:
        text = (action.help or "").rstrip(".")
        if action.dest in self.required:
            return f"{text} (required)"
        default = self.defaults.get(action.dest)
        default = action.default if default is None else default
        if default is None or default is False or default in ("", [], {}, argparse.SUPPRESS):
            return text
        return f"{text} (default: {as_typed(default, action.nargs)})"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Paragraphs; a line that begins with "Example:" is never broken, so that it can be copied."""
        parts = re.split(r"\n\n|\n?(?=Example:)", text)
        return "\n\n".join(
            part if part.startswith("Example:") else super(PlainHelp, self)._fill_text(part, width, indent)
            for part in parts
            if part
        )


def as_typed(value: object, nargs: object = None) -> str:
    """A default as one would type it."""
    if isinstance(value, list | tuple):
        words = [as_typed(item) for item in value]
        return " ".join(words) if nargs else f"[{', '.join(words)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def as_flag(key: str) -> str:
    """A key or flag as it is shown: keys of groups keep their underscores."""
    return key if "." in key else key.replace("_", "-")


def name_of(action: argparse.Action) -> str:
    """A flag as it is shown, or what stands in its place where it has no name."""
    names = [name for name in action.option_strings if name.startswith("--") and not name.endswith("+")]
    return as_flag(names[0]) if names else "|".join(choices_of(action)) or action.dest


def choices_of(action: argparse.Action) -> list[str]:
    """The words that a flag takes; none if it takes others too."""
    kind = kind_of(action)
    if kind is bool:
        return ["true", "false"]
    return [str(choice) for choice in action.choices or (get_args(kind) if get_origin(kind) is Literal else ())]


def kind_of(action: argparse.Action) -> Any:
    """The type of a flag's value, without "or None"."""
    kind = getattr(action, "_typehint", None) or action.type
    if get_origin(kind) in (Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    return kind


def takes_pairs(action: argparse.Action) -> bool:
    """Is a flag's value a mapping?"""
    return get_origin(kind_of(action)) is dict


def takes_list(action: argparse.Action) -> bool:
    """Is a flag's value a list?"""
    return get_origin(kind_of(action)) in (list, tuple)


def what_to_give(action: argparse.Action) -> str:
    """What a flag takes, in words."""
    kind = kind_of(action)
    if choices := choices_of(action):
        return f"one of {', '.join(choices)}"
    if restriction := re.fullmatch(r"v(>=?)(\S+)(?: and v<=(\S+))?", getattr(kind, "_expression", "")):
        number = "a whole number" if issubclass(kind, int) else "a number"
        if restriction[3]:
            return f"{number} from {restriction[2]} to {restriction[3]}"
        return f"{number}{' above' if restriction[1] == '>' else ', at least'} {restriction[2]}"
    if takes_list(action):
        return "a list, such as [1, 2]"
    if takes_pairs(action):
        return "pairs, such as {128: 32}"
    return PLAIN_KINDS.get(kind, "{}, null, or its keys")


# How jsonargparse words a wrong value. The value itself is the first group that is there.
WRONG_VALUE = re.compile(r"(?:Given|Got) value: (.*)|: '(.*)'$|: (\S+) does not conform", re.MULTILINE)


def explain(message: str, flags: Mapping[str, argparse.Action]) -> str:
    """Make one plain line of what a parser of these `flags` (by key) says."""
    if needed := re.search(r"arguments are required: (.+)", message):
        return f"give {' and '.join(name_of(flags[key]) for key in needed[1].split(', '))}"
    if stray := re.search(r"unrecognized arguments: (\S+)", message):
        flag = next((key for key in ("model", "input", "data") if key in flags), "output")
        return f"'{stray[1]}' belongs to no flag; every value follows one, such as --{flag} {stray[1]}"
    if bare := re.search(r"argument ([^\s/:]+)\S*: expected", message):
        return f"{as_flag(bare[1])} needs a value"
    key = ".".join(re.findall(r'[Kk]ey "([\w.]+)"', message))
    if of_argparse := re.search(r"argument (?:--)?([\w.-]+).*: invalid choice: '?(.*?)'? \(choose", message):
        key, value = of_argparse[1].replace("-", "_"), of_argparse[2]
    else:
        found = WRONG_VALUE.search(message)
        value = found and next(group for group in found.groups() if group is not None)
    if key in flags and value is not None:
        return f"{name_of(flags[key])} {value}: give {what_to_give(flags[key])}"
    message = re.sub(r"<class '([\w.]+)'>", r"\1", message.replace("Parser key", "key"))
    return " ".join(message.split())
