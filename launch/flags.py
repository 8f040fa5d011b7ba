"""The parser that every verb shares: flags and files of keys, and good answers to wrong ones."""

import difflib
import os
import re
import sys
from argparse import SUPPRESS, Action
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import is_dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentParser, Namespace  # pyright: ignore[reportPrivateImportUsage]

from dinogen.errors import UsageError, first_line
from dinogen.plain_text import read_text
from launch.renamed import Renamed, is_gone
from launch.wording import PlainHelp, as_flag, explain, kind_of, takes_list, takes_pairs

PRESETS = Path(__file__).parent.parent / "configs"
TEXTS = ("prompt", "from", "to", "contact", "auth")  # keys whose values are words, never a path
COMMON = ("help", "config", "print_config", "quiet", "json", "debug")


class ConfigFile(ActionConfigFile):
    """`--config`: a YAML file of keys, or the name of a preset."""

    def __call__(self, parser: "CommandParser", cfg: Namespace, values: str, option_string: str | None = None) -> None:
        text, keys = read_keys(find_config(values), values)
        if typed := [key for key in keys if key.partition(".")[0].replace("-", "_") in COMMON]:
            raise UsageError(f"{values}: '{typed[0]}' is for the command line, not for a file; take it out")
        parser.check_keys(keys, f"{values}: ")
        text = parser.renamed.in_file(text, keys, values)
        # As text: the parser itself would open the file as UTF-8 without a byte-order mark.
        super().__call__(parser, cfg, text, option_string)


class CommandParser(ArgumentParser):
    """jsonargparse's parser with the flags that all verbs have, whose errors come back as exceptions.

    Args:
        verb: the command's name; None makes a plain parser, as jsonargparse needs for a block that may be absent.
        description: the first lines of its help.
        epilog: the last lines of its help; a line that begins with "Example:" is never broken.
        renamed: old names of keys or of groups of keys, each with the new one, see `Renamed`. Old names are taken, and
            the new ones said; what is gone is refused.
    """

    def __init__(
        self,
        verb: str | None = None,
        description: str | None = None,
        epilog: str | None = None,
        renamed: Mapping[str, str] | None = None,
        **options: Any,
    ):
        self.renamed = Renamed(renamed or {})
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
            UsageError: a flag or a key of a file is gone, or unknown.
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
                if name not in spelling.values():
                    keys.append(match[1])
                    new = self.renamed.new_name(match[1]) or match[1]
                    name = spelling.get("__" + new.replace("-", "_"), f"--{new}")
                args[index] = name + arg[match.end() :]
        self.check_keys(keys)
        if args and not args[0].startswith("-") and all(action.option_strings for action in self._actions):
            raise UsageError(explain(f"unrecognized arguments: {args[0]}", self.flags()))
        found = super().parse_args(list(self.lists_in_brackets(args)), *more, **options)
        for group in {key.partition(".")[0] for key in self.flags() if "." in key} - {*self.flags()}:
            if group in found and not isinstance(found[group], Namespace):
                raise UsageError(f"{group}: {found[group]} is not a group of keys; give them by name, see --help")
        for key, value in list(found.items()):
            if "\0" in str(value):
                raise UsageError(f"{key}: a text with a zero byte; take it out")
            if key not in TEXTS:
                found[key] = with_home(value)
        return found

    def lists_in_brackets(self, args: Sequence[str]) -> Iterator[str]:
        """Lists may be typed either way, whichever the parser reads.

        `--trackers a b` becomes `--trackers=[a, b]`, which is how it reads lists of dataclasses. `--levels [1, 2]`
        becomes `--levels 1 2`.
        """
        flags = list(self.flags().values())
        bracketed = {name for flag in flags if flag.nargs is None and takes_list(flag) for name in flag.option_strings}
        plain = {name for flag in flags if flag.nargs == "+" and flag.type is not str for name in flag.option_strings}
        args = list(args)
        while args:
            arg = args.pop(0)
            name, equals, value = arg.partition("=")
            known = name in bracketed or name in plain
            values = [value] if equals else list(takewhile(lambda text: not text.startswith("--"), args))
            joined = " ".join(values).strip()
            if not known or not joined:
                yield arg
                continue
            if not equals:
                del args[: len(values)]
            inner = joined[1:-1] if joined.startswith("[") and joined.endswith("]") else None
            if name in plain:
                yield from [name, *(values if inner is None else inner.replace(",", " ").split())]
            else:
                yield f"{name}={joined}" if inner is not None else f"{name}=[{', '.join(values)}]"

    def check_keys(self, keys: Sequence[str], file: str = "") -> None:
        """Refuse keys of the command line or of a file that are gone or unknown, and say new names of renamed ones.

        Raises:
            UsageError: says what became of all that are gone, or the nearest name to the first unknown one.
        """
        dashes = "" if file else "--"
        new_names = {key: new for key in keys if (new := self.renamed.new_name(key)) is not None}
        gone = [f"{dashes}{key} is {new or 'gone: leave it out'}" for key, new in new_names.items() if is_gone(new)]
        if gone:
            raise UsageError(file + "\n  ".join(["these keys are gone:", *gone] if len(gone) > 1 else gone))
        flags = self.flags()
        groups = {name.rpartition(".")[0] for name in flags}
        for key in keys:
            name = new_names.get(key, key).replace("-", "_")
            inside_value = any(name.startswith(f"{flag}.") for flag, action in flags.items() if takes_pairs(action))
            if name not in flags and name not in groups and not inside_value:
                raise UsageError(f"{file}unknown key '{key}'{self._nearest(new_names.get(key, key))}")
        if os.environ.get("RANK", "0") == "0":
            for key, new in new_names.items():
                name = as_flag(new) if dashes else new
                print(f"{self.prog}: {file}{dashes}{key} is now {dashes}{name}; it is taken as that", file=sys.stderr)

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
        return {action.dest: action for _, actions in self.sections() for action in actions}

    def format_help(self, formatter: object = None) -> str:
        """What the verb does, its flags by group, and the flags that all verbs have."""
        page = PlainHelp(self.prog, self.get_defaults(), self.needed)
        page.add_usage(None, self._actions, [])
        page.add_text(self.description)
        for title, actions in self.sections():
            page.start_section(title and title[0].upper() + title[1:].rstrip("."))
            page.add_arguments(actions)
            page.end_section()
        page.add_text(self.epilog)
        return page.format_help()

    def sections(self) -> Iterator[tuple[str | None, list[Action]]]:
        """Titles and flags as in help: the groups' own, blocks that may be absent, and last what all verbs have."""
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


def read_keys(path: Path, name: str) -> tuple[str, list[str]]:
    """A file of keys in YAML or JSON: its text, with underscores for hyphens in names, and the keys as they stand.

    Args:
        path: of the file.
        name: what a person calls it.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    try:
        text = read_text(path)
        content = yaml.safe_load(text)
        keys = list(keys_of_mapping(content))
        if any("-" in key for key in keys):
            node = yaml.compose(text, yaml.SafeLoader)
            write_underscores(node)
            text = yaml.serialize(node, Dumper=yaml.SafeDumper, allow_unicode=True)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "odd characters"
        raise UsageError(f"--config {name}: {line}not YAML ({reason})") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # a 13th month, a list as a key
        raise UsageError(f"--config {name}: not YAML ({first_line(error)})") from error
    if not isinstance(content, dict | None):
        raise UsageError(f"--config {name}: give keys and values, a line each, such as seed: 1")
    return ("{}" if content is None else text), keys


def keys_of_mapping(values: object, parents: str = "") -> Iterator[str]:
    """`{"a": {"b": 1, "c": {4: 2}}}` gives `a.b` and `a.c`: what has other keys than names is a value."""
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict) and value and all(isinstance(name, str) for name in value):
            yield from keys_of_mapping(value, f"{parents}{key}.")
        else:
            yield f"{parents}{key}"


def with_home(value: Any) -> Any:
    """A path, or several, with the home folder for a leading `~`, which shells leave alone in `--output=~/x`."""
    if isinstance(value, list):
        return [with_home(item) for item in value]
    if isinstance(value, str | Path) and str(value).startswith("~"):
        return type(value)(os.path.expanduser(value))
    return value


def write_underscores(node: yaml.Node | None) -> None:
    """Write underscores for hyphens in all names of a mapping. (In its nodes, so that numbers stay as they stand.)"""
    for name, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if name.tag == "tag:yaml.org,2002:str":
            name.value = name.value.replace("-", "_")
        write_underscores(value)


def find_config(name: str) -> Path:
    """A file that is there, or the installed preset of that name.

    Raises:
        UsageError: there is neither.
    """
    path = Path(os.path.expanduser(name))
    with suppress(ValueError):  # a zero byte
        if path.is_file():
            return path
    presets = {preset.stem: preset for preset in sorted(PRESETS.glob("*.yaml"))}
    if name in presets:
        return presets[name]
    near = difflib.get_close_matches(path.stem, presets, 1)
    guess = f"; did you mean '{near[0]}'?" if near else ""
    raise UsageError(f"--config {name}: no such file, and no preset of that name ({', '.join(presets)}){guess}")
