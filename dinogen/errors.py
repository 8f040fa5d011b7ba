"""The two kinds of failure that a user can cause, each shown as one plain line."""


class DinogenError(Exception):
    """Work that could not be done: the message names the thing, what is wrong and the remedy. Exit code 1."""

    exit_code = 1


class UsageError(DinogenError):
    """A flag, key or value that cannot be right, found before any work began. Exit code 2."""

    exit_code = 2


class Stopped(DinogenError):
    """Work that was asked to stop by a signal and saved what it had; ends as if SIGTERM had ended it."""

    exit_code = 128 + 15


def first_line(error: Exception) -> str:
    """What an error says, short; its kind where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
