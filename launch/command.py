"""What every verb shares: a parser with good errors, and failures as one line with an exit code."""

import difflib
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile, ArgumentError, ArgumentParser, Namespace

from dinogen.errors import DinogenError, UsageError

# How jsonargparse words an unknown key, on the command line and in a config file.
UNKNOWN_KEY = (
    r"unrecognized arguments: --(?P<key>[\w.-]+)",
    r"Option '(?P<key>[\w.-]+)' is not accepted",
    r"Group '(?P<group>[\w.-]+)' does not accept option '(?P<key>[\w.-]+)'",
)


PRESETS = Path(__file__).parent.parent / "configs"


class ConfigFile(ActionConfigFile):
    """`--config`: a file of keys or the name of a preset; old names of keys are answered with the new ones."""

    def __call__(self, parser: "CommandParser", cfg: Namespace, values: str, option_string: str | None = None) -> None:
        path = find_config(values)
        parser.refuse_renamed(keys_of_file(path), f"{values}: ")
        super().__call__(parser, cfg, str(path), option_string)


class CommandParser(ArgumentParser):
    """jsonargparse's parser with `--config` and `--debug`, whose errors come back as exceptions.

    Args:
        verb: the command's name; None makes a plain parser, as jsonargparse needs for a block that may be absent.
        description: the first lines of its help.
        epilog: the last lines of its help.
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
        if verb is None:
            super().__init__(**options)
            return
        super().__init__(prog=f"dinogen {verb}", description=description, epilog=epilog, exit_on_error=False)
        self.renamed = dict(renamed or {})
        self.add_argument(
            "--config",
            action=ConfigFile,
            help="read these keys from a YAML file or a preset, see below; later flags win",
        )
        self.add_argument("--debug", action="store_true", help="show the traceback of a failure")

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Namespace:
        """Parse flags and the files that they name.

        Raises:
            UsageError: a flag or a key of a file has an old name.
            ArgumentError: anything else that cannot be parsed.
        """
        args = list(sys.argv[1:] if args is None else args)
        self.refuse_renamed(keys_of_flags(args))
        return super().parse_args(args, *more, **options)

    def refuse_renamed(self, keys: Iterable[str], where: str | None = None) -> None:
        """Raise a `UsageError` that lists all of the keys, of flags or of the file `where`, that have new names."""
        dashes = "" if where else "--"
        changes = [f"{dashes}{key} {news}" for key in keys if (news := self._news_of(key, dashes))]
        if len(changes) > 1:
            changes = ["these keys changed:", *changes]
        if changes:
            raise UsageError((where or "") + "\n  ".join(changes))

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

    def explain(self, message: str) -> str:
        """Make one line of a parser's message; an unknown key is answered with the nearest known one."""
        for pattern in UNKNOWN_KEY:
            if match := re.search(pattern, message):
                parts = match.groupdict()
                key = f"{parts['group']}.{parts['key']}" if parts.get("group") else parts["key"]
                return f"unknown key '{key}'{self._nearest(key)}"
        message = re.sub(r"Parser key ", "key ", message)
        message = re.sub(r"<class '([\w.]+)'>", r"\1", message)
        return " ".join(message.split())

    def _nearest(self, key: str) -> str:
        known = {action.dest for action in self._actions} - {"help", "print_config", "print_shtab"}
        wanted = key.replace("-", "_")

        def likeness(name: str) -> float:
            # A key typed without its group, or with a wrong one, is still nearest to the same name inside another.
            pairs = [(wanted, name), (wanted.rsplit(".", 1)[-1], name.rsplit(".", 1)[-1])]
            return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

        best = max(known, key=likeness)
        if likeness(best) < 1.0:
            return "; see --help for the known ones"
        return f"; did you mean '{as_flag(best)}'?"


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


def as_flag(key: str) -> str:
    """A key as flags write it: keys of groups keep their underscores."""
    return key if "." in key else key.replace("_", "-")


def keys_of_flags(args: Iterable[str]) -> Iterator[str]:
    """`--a.b=1` gives `a.b`."""
    for arg in args:
        if match := re.match(r"--([\w.-]+)(=|$)", arg):
            yield match[1]


def keys_of_file(path: Path) -> list[str]:
    """The keys of a YAML file, with dots; none of a file that cannot be read: the parser says why."""
    try:
        return list(keys_of_mapping(yaml.safe_load(path.read_text())))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []


def keys_of_mapping(values: object, parents: str = "") -> Iterator[str]:
    """`{"a": {"b": 1, "c": {4: 2}}}` gives `a.b` and `a.c`: what has other keys than names is a value."""
    for key, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, dict) and value and all(isinstance(name, str) for name in value):
            yield from keys_of_mapping(value, f"{parents}{key}.")
        else:
            yield f"{parents}{key}"


def run_command(parser: CommandParser, work: Callable[[Namespace], None], argv: list[str] | None = None) -> int:
    """Parse `argv`, do the work, and return the exit code: 0, 1 for a failure, 2 for wrong usage, 130 for Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        work(parser.parse_args(argv))
        return 0
    except ArgumentError as error:
        caught, code, message = error, 2, parser.explain(str(error))
    except DinogenError as error:
        caught, code, message = error, error.exit_code, str(error)
    except KeyboardInterrupt as error:
        caught, code, message = error, 130, "interrupted; run the same command again to go on"
    except Exception as error:  # the last resort: a person gets one line, a developer asks for --debug
        caught, code, message = error, 1, f"unexpected {type(error).__name__}: {error} (--debug shows the traceback)"
    if "--debug" in argv:
        traceback.print_exception(caught)
    print(f"{parser.prog}: error: {message}", file=sys.stderr)
    return code


def say_done(written: object, next_command: str | None = None) -> None:
    """The last line of a verb: what was written, and what to run next."""
    print(f"Wrote {written}." + (f" Next: {next_command}" if next_command else ""), flush=True)


def command_line(verb: str, **flags: object) -> str:
    """A command to run next, its values quoted for a shell."""
    words = [word for key, value in flags.items() for word in (f"--{as_flag(key)}", str(value))]
    return shlex.join(["dinogen", verb, *words])


def sibling(folder: str | Path, old: str, new: str) -> Path:
    """Where the next step may write: beside `data/crops` it is `data/shards`, beside `data/mine` `data/mine-shards`."""
    path = Path(folder) if Path(folder).name else Path(folder).resolve()
    stem = path.name.removesuffix(old)
    return path.with_name(stem + new if stem != path.name else f"{stem}-{new}")
