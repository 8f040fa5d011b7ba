"""What every verb shares: a parser with good errors, and failures as one line with an exit code."""

import difflib
import re
import sys
import traceback
from collections.abc import Callable

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from dinogen.errors import DinogenError

# How jsonargparse words an unknown key, on the command line and in a config file.
UNKNOWN_KEY = (
    r"unrecognized arguments: --(?P<key>[\w.-]+)",
    r"Option '(?P<key>[\w.-]+)' is not accepted",
    r"Group '(?P<group>[\w.-]+)' does not accept option '(?P<key>[\w.-]+)'",
)


class CommandParser(ArgumentParser):
    """jsonargparse's parser with `--config` and `--debug`, whose errors come back as exceptions."""

    def __init__(self, verb: str, description: str, epilog: str | None = None):
        super().__init__(prog=f"dinogen {verb}", description=description, epilog=epilog, exit_on_error=False)
        self.add_argument("--config", action="config", help="YAML file with any of these keys; later flags win")
        self.add_argument("--debug", action="store_true", help="show the traceback of a failure")

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
        return f"; did you mean '{best if '.' in best else best.replace('_', '-')}'?"


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
