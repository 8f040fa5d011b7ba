"""Terminals that may be closed while a command still runs."""

import os
import sys


def open_terminals() -> list[int]:
    """The descriptors of what is printed that are a terminal."""
    return [stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()]


def let_go(terminals: list[int]) -> None:
    """Print to nowhere from now on: each write to a terminal that is gone would fail."""
    for terminal in terminals:
        os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
