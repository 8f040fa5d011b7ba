"""Flags from dataclasses: types, defaults and help are written once, where the work is done."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from docstring_parser import parse
from jsonargparse import Namespace
from jsonargparse.typing import restricted_number_type

from launch.command import CommandParser

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Seed = restricted_number_type("Seed", int, [(">=", 0), ("<=", 2**32 - 1)])

Options = TypeVar("Options", bound="DataclassInstance")


def add_options(parser: CommandParser, options: type) -> None:
    """Add a flag for each field of a dataclass: its type, its default, and its line of the docstring as help."""
    helps = {parameter.arg_name: parameter.description for parameter in parse(options.__doc__ or "").params}
    hints = get_type_hints(options)
    for field in fields(options):
        text = " ".join((helps[field.name] or "").split())
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", default=field.default, help=text, **_kind_of(hints[field.name])
        )


def _kind_of(hint: Any) -> dict[str, Any]:
    """A bool is a flag without a value, a list takes several values, a `Literal` names its choices."""
    if hint is bool:
        return {"action": "store_true"}
    if get_origin(hint) is Literal:
        return {"type": type(get_args(hint)[0]), "choices": list(get_args(hint))}
    for part in get_args(hint):
        if get_origin(part) is list:
            return {"type": get_args(part)[0], "nargs": "+"}
    return {"type": hint}


def options_of(args: Namespace, options: type[Options]) -> Options:
    """The dataclass that parsed flags describe, which checks their ranges.

    Raises:
        UsageError: a number out of its range.
    """
    return options(**{name: getattr(args, name) for name in get_type_hints(options)})
