"""The parser that every verb shares: flags and files of keys, and good answers to wrong ones."""

import difflib
import re
import sys
from argparse import SUPPRESS, Action
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import is_dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, get_origin

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]

from dinogen.errors import UsageError
from launch.wording import PlainHelp, as_flag, explain, kind_of, takes_pairs

PRESETS = Path(__file__).parent.parent / "configs"
COMMON = ("help", "config", "print_config", "quiet", "json", "debug")


class ConfigFile(ActionConfigFile):
    """`--config`: a YAML file of keys, or the name of a preset."""

    def __call__(self, parser: "CommandParser", cfg: Namespace, values: str, option_string: str | None = None) -> None:
        path = find_config(values)
        try:
            content = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            content = None  # the parser says why it cannot be read
        keys = list(keys_of_mapping(content))
        parser.check_keys(keys, f"{values}: ")
        hyphens = any("-" in key for key in keys)
        super().__call__(
            parser, cfg, yaml.safe_dump(with_underscores(content)) if hyphens else str(path), option_string
        )


class CommandParser(ArgumentParser):
    """jsonargparse's parser with the flags that all verbs have, whose errors come back as exceptions.

    Args:
        verb: the command's name; None makes a plain parser, as jsonargparse needs for a block that may be absent.
        description: the first lines of its help.
        epilog: the last lines of its help; a line that begins with "Example:" is never broken.
        renamed: old names of keys or of groups of keys, each with the new name, which answers whoever uses the old one.
            An empty name, or one that begins with "gone", says that the key is gone: "gone: always 3 now".
    """

    def __init__(
        self,
        verb: str | None = None,
        description: str | None = None,
        epilog: str | None = None,
        renamed: Mapping[str, str | None] | None = None,
        **options: Any,
    ):
        self.renamed = dict(renamed or {})
        self.needed: list[str] = []  # keys; jsonargparse hides them from the actions while it parses
        if verb is None:
            super().__init__(**options)
            return
        super().__init__(
            prog=f"dinogen {verb}",
            description=description,
            epilog=epilog,
            exit_on_error=False,
            print_config="--print-config",
        )
        add = self.add_argument
        add("--config", action=ConfigFile, help="read keys from a YAML file or a preset's name; later flags win")
        for name, does in (
            ("--quiet", "show no progress, only results and errors"),
            ("--json", "end with one JSON object on the standard output, and say everything else on the error output"),
            ("--debug", "show the traceback of a failure"),
        ):
            add(name, action="store_true", default=SUPPRESS, help=does)

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Namespace:
        """Parse flags and the files that they name; a hyphen in a flag's name is an underscore.

        Raises:
            UsageError: a flag or a key of a file has an old name, or is unknown.
            ArgumentError: anything else that cannot be parsed.
        """
        self.needed = [action.dest for action in self._actions if action.required]
        args = list(sys.argv[1:] if args is None else args)
        spelling = {name.replace("-", "_"): name for name in self._option_string_actions}
        spelling |= {name.replace("-", "_"): name for action in self.flags().values() for name in action.option_strings}
        keys = []
        for index, arg in enumerate(args):
            if match := re.match(r"--([\w.-]+\+?)(?==|$)", arg):
                name = spelling.get(match[0].replace("-", "_"), match[0])
                args[index] = name + arg[match.end() :]
                keys += [] if name in spelling.values() else [match[1]]
        self.check_keys(keys)
        if args and not args[0].startswith("-") and all(action.option_strings for action in self._actions):
            raise UsageError(explain(f"unrecognized arguments: {args[0]}", self.flags()))
        return super().parse_args(list(self.lists_in_brackets(args)), *more, **options)

    def lists_in_brackets(self, args: Sequence[str]) -> Iterator[str]:
        """`--trackers a b` becomes `--trackers=[a, b]`, which is how the parser reads lists of dataclasses."""
        taking = (flag for flag in self.flags().values() if flag.nargs is None)
        lists = [name for flag in taking if get_origin(kind_of(flag)) in (list, tuple) for name in flag.option_strings]
        args = list(args)
        while args:
            arg = args.pop(0)
            values = list(takewhile(lambda value: not value.startswith("--"), args)) if arg in lists else []
            if values and not values[0].startswith("["):
                del args[: len(values)]
                arg = f"{arg}=[{', '.join(values)}]"
            yield arg

    def check_keys(self, keys: Sequence[str], file: str = "") -> None:
        """Refuse old and unknown keys of the command line or of a file.

        Raises:
            UsageError: says the new names of all old keys, or the nearest name to the first unknown one.
        """
        dashes = "" if file else "--"
        changes = [f"{dashes}{key} {news}" for key in keys if (news := self._news_of(key, dashes))]
        if changes:
            raise UsageError(file + "\n  ".join(["these keys changed:", *changes] if len(changes) > 1 else changes))
        flags = self.flags()
        groups = {name.rpartition(".")[0] for name in flags}
        for key in keys:
            name = key.replace("-", "_")
            inside_value = any(name.startswith(f"{flag}.") for flag, action in flags.items() if takes_pairs(action))
            if name not in flags and name not in groups and not inside_value:
                raise UsageError(f"{file}unknown key '{key}'{self._nearest(key)}")

    def _news_of(self, key: str, dashes: str) -> str | None:
        """What became of a key, by its own old name or by that of a group around it; None if nothing did."""
        parts = key.replace("-", "_").split(".")
        for length in range(len(parts), 0, -1):
            old = ".".join(parts[:length])
            if old in self.renamed:
                new = self.renamed[old]
                if not new:
                    return "is gone: leave it out"
                if new.startswith("gone"):
                    return f"is {new}"
                name = ".".join([new, *parts[length:]])
                return f"is now {dashes}{as_flag(name) if dashes else name}"
        return None

    def _nearest(self, key: str) -> str:
        wanted = key.replace("-", "_")

        def likeness(name: str) -> float:
            # A key typed without its group, or with a wrong one, is still nearest to the same name inside another.
            pairs = [(wanted, name), (wanted.rsplit(".", 1)[-1], name.rsplit(".", 1)[-1])]
            return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

        best = max(self.flags(), key=likeness)
        if likeness(best) < 1.0:
            return "; see --help for the known ones"
        return f"; did you mean '{as_flag(best)}'?"

    def explain(self, message: str) -> str:
        """Make one plain line of what this parser says."""
        return explain(message, self.flags())

    def flags(self) -> dict[str, Action]:
        """Every flag that help shows, by key."""
        return {action.dest: action for _, actions in self._sections() for action in actions}

    def format_help(self, formatter: object = None) -> str:
        """What the verb does, its flags by group, and the flags that all verbs have."""
        page = PlainHelp(self.prog, self.get_defaults(), self.needed)
        page.add_usage(None, self._actions, [])
        page.add_text(self.description)
        for title, actions in self._sections():
            page.start_section(title and title[0].upper() + title[1:].rstrip("."))
            page.add_arguments(actions)
            page.end_section()
        page.add_text(self.epilog)
        return page.format_help()

    def _sections(self) -> Iterator[tuple[str | None, list[Action]]]:
        """Titles and flags: the groups' own, blocks that may be absent, and last what all verbs have."""
        blocks = []
        hidden = {action.dest.rpartition(".")[0] for action in self._actions if not action.dest.endswith(".help")}
        hidden |= {*COMMON, "print_shtab"}
        for group in self._action_groups:
            actions = []
            for action in group._group_actions:
                if action.dest not in hidden and not action.dest.endswith(".help"):
                    (blocks if is_dataclass(kind_of(action)) else actions).append(action)
            yield "flags" if group is self._optionals else group.title, actions
        for block in blocks:
            switch = copy(block)
            switch.metavar, switch.help = "{}|null", "{}: on, with what is below; null: off"
            inner = ArgumentParser(exit_on_error=False)
            inner.add_class_arguments(kind_of(block), block.dest)
            for action in (keys := [action for action in inner._actions if action.dest.startswith(f"{block.dest}.")]):
                action.default = inner.get_defaults()[action.dest]
            yield block.help, [switch, *keys]
        common = {action.dest: action for action in self._actions if action.dest in COMMON}
        if "print_config" in common:
            common["print_config"].metavar, common["print_config"].help = "", "print all keys as YAML and exit"
        yield "common flags", list(common.values())


def keys_of_mapping(values: object, parents: str = "") -> Iterator[str]:
    """`{"a": {"b": 1, "c": {4: 2}}}` gives `a.b` and `a.c`: what has other keys than names is a value."""
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict) and value and all(isinstance(name, str) for name in value):
            yield from keys_of_mapping(value, f"{parents}{key}.")
        else:
            yield f"{parents}{key}"


def with_underscores(values: object) -> object:
    """The same mapping with underscores for hyphens in all names."""
    if not isinstance(values, dict):
        return values
    return {
        key.replace("-", "_") if isinstance(key, str) else key: with_underscores(value) for key, value in values.items()
    }


def find_config(name: str) -> Path:
    """A file that is there, or the installed preset of that name.

    Raises:
        UsageError: there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    presets = {preset.stem: preset for preset in sorted(PRESETS.glob("*.yaml"))}
    if name in presets:
        return presets[name]
    near = difflib.get_close_matches(path.stem, presets, 1)
    guess = f"; did you mean '{near[0]}'?" if near else ""
    raise UsageError(f"--config {name}: no such file, and no preset of that name ({', '.join(presets)}){guess}")
