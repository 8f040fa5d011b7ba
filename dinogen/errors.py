"""The two kinds of failure that a user can cause, each shown as one plain line."""

import signal


class DinogenError(Exception):
    """Work that could not be done: the message names the thing, what is wrong and the remedy. Exit code 1."""

    exit_code = 1


class UsageError(DinogenError):
    """A flag, key or value that cannot be right, found before any work began. Exit code 2."""

    exit_code = 2


class Stopped(DinogenError):
    """Work that was asked to stop and saved what it had; said plainly, as it is not a failure.

    Args:
        message: what was saved, and how to continue.
        number: of the signal that asked. Exit code 130 for Ctrl-C, 143 for all others.
    """

    def __init__(self, message: str, number: int = signal.SIGTERM):
        super().__init__(message)
        self.exit_code = 128 + (number if number == signal.SIGINT else signal.SIGTERM)


def first_line(error: Exception) -> str:
    """What an error says, short; its kind where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
