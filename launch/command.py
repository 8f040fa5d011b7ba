"""How every verb runs and ends: one closing line, failures as one line, the same exit codes."""

import contextlib
import io
import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import TextIO

from jsonargparse import ArgumentError, Namespace

from dinogen.errors import DinogenError, Stopped
from dinogen.progress import be_quiet
from dinogen.terminal import let_go, open_terminals
from launch.flags import CommandParser

__all__ = ["CommandParser", "flush", "run_command", "say_done", "write_any_letter"]

READER_LEFT = 128 + signal.SIGPIPE  # as a shell says of a command whose reader has gone
SIGNAL_CAME = 128 + signal.SIGTERM
ENDS = (signal.SIGTERM, signal.SIGHUP)

# Where the closing line goes as JSON, and the command that says it; None for a line in words.
_json_output: ContextVar[tuple[TextIO, str] | None] = ContextVar("json_output", default=None)


class Terminated(SystemExit):
    """A signal asked for the end; what is half-written is cleaned up on the way out.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(SIGNAL_CAME)
        self.number = number


def run_command(parser: CommandParser, work: Callable[[Namespace], None], argv: list[str] | None = None) -> int:
    """Parse `argv`, do the work, and return the exit code.

    0, or 1 for a failure, 2 for wrong usage, 130 for Ctrl-C, 143 for SIGTERM and SIGHUP, 141 when nobody reads the
    output.
    """
    argv = sys.argv[1:] if argv is None else argv
    write_any_letter()
    output = sys.stdout
    as_json = _json_output.set((output, parser.prog) if "--json" in argv else None)
    try:
        with contextlib.ExitStack() as stack:
            if "--json" in argv:
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
            stack.enter_context(be_quiet("--quiet" in argv))
            stack.enter_context(listening_to_signals())
            code = attempt(parser, work, argv)
            return code if flush(output) else READER_LEFT
    except SystemExit:  # help was asked for
        flush(output)
        raise
    finally:
        _json_output.reset(as_json)


def attempt(parser: CommandParser, work: Callable[[Namespace], None], argv: list[str]) -> int:
    """Do the work; say in one line what ended it, and return the exit code."""
    try:
        args = parser.parse_args(argv)
        for flag in ("quiet", "json"):
            args.pop(flag, None)
        work(args)
        return 0
    except ArgumentError as error:
        caught, code, message = error, 2, f"error: {parser.explain(str(error))}"
    except Stopped as error:
        caught, code, message = error, error.exit_code, str(error)
    except DinogenError as error:
        caught, code, message = error, error.exit_code, f"error: {error}"
    except KeyboardInterrupt as error:
        caught, code, message = error, 130, "interrupted; run the same command again to resume"
    except Terminated as error:
        name = signal.Signals(error.number).name
        caught, code, message = error, SIGNAL_CAME, f"ended by {name}; run the same command again to resume"
    except BrokenPipeError:
        return READER_LEFT
    except Exception as error:  # the last resort: a person gets one line, a developer asks for --debug
        known = told_by_the_system(error)
        message = f"error: {known or f'unexpected {type(error).__name__}: {error} (--debug shows the traceback)'}"
        caught, code = error, 1
    if "--debug" in argv:
        traceback.print_exception(caught)
    print(f"{parser.prog}: {message}", file=sys.stderr)
    if place := _json_output.get():
        print(json.dumps({"command": place[1], "exit_code": code, "said": message}), file=place[0])
    return code


def told_by_the_system(error: Exception) -> str | None:
    """What the operating system refused, in plain words; None for other errors."""
    # PyTorch's error for memory is a RuntimeError, and importing it for its kind would take seconds.
    if isinstance(error, MemoryError) or re.search(
        r"out of memory|can't allocate memory|not enough memory", str(error)
    ):
        return "not enough memory; ask for less, such as smaller batches or sizes, or fewer workers"
    if isinstance(error, OSError) and error.strerror:
        places = " and ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{places}{places and ': '}{error.strerror.lower()}; check the path, its permissions and the disk"
    return None


def say_done(
    written: object, next_command: str | None = None, *, remark: str = "", did: str = "Wrote", **figures: object
) -> None:
    """The last line of a verb: what was written, and what to run next; with --json as one object.

    Args:
        written: a path, or some words that name paths.
        next_command: what to run next, see `dinogen.advice`, or to do.
        remark: more about what was written.
        did: what was done to it.
        figures: numbers for the JSON object.
    """
    if place := _json_output.get():
        said = {"command": place[1], "exit_code": 0, "did": did, "written": written, "remark": remark}
        print(json.dumps(said | {"next": next_command} | figures, default=str), file=place[0], flush=True)
        return
    remark = f": {remark}" if remark else ""
    print(f"{did} {written}{remark}." + (f" Next: {next_command}" if next_command else ""), flush=True)


@contextlib.contextmanager
def listening_to_signals() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a closed terminal, raise `Terminated`, unless something else listens to them or nohup
    has them ignored."""
    terminals = open_terminals()

    def leave(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            let_go(terminals)
        raise Terminated(number)

    free = threading.current_thread() is threading.main_thread()
    heard = [number for number in ENDS if free and signal.getsignal(number) == signal.SIG_DFL]
    for number in heard:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, signal.SIG_DFL)


def write_any_letter() -> None:
    """Letters that a terminal or a log file cannot hold are written as escapes, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush(stream: TextIO, text: str = "") -> bool:
    """Write `text` and what is buffered; False if nobody reads it, and then Python does not try again when it ends."""
    try:
        stream.write(text)
        stream.flush()
        return True
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return False
