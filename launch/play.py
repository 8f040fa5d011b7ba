"""`dinogen play`: a page in the browser to play with a generator."""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import restricted_number_type

from launch.command import CommandParser, run_command, say_done
from launch.drawing import add_device, add_encoder, add_model

if TYPE_CHECKING:
    from torch import Tensor

Port = restricted_number_type("Port", int, [(">=", 1), ("<=", 65535)])
PASSWORD = "DINOGEN_PLAY_PASSWORD"


def build_parser() -> CommandParser:
    parser = CommandParser(
        "play",
        "Open a page in the browser to play with a generator: faces, walks, mixed styles, a photo.",
        "The page is for this machine alone, unless --host and --auth say otherwise. It loads nothing from elsewhere. "
        "From another machine, come through an SSH tunnel: ssh -L 7860:localhost:7860 HOST. Ctrl-C ends it.\n\n"
        "Example: dinogen play --model runs/faces",
    )
    add = parser.add_argument
    add_model(parser, "generator to play with")
    add("--host", type=str, default="127.0.0.1", help="address to listen on; any but this machine's own needs --auth")
    add("--port", type=Port, default=7860, help="port to listen on")
    add(
        "--auth",
        type=str,
        default=None,
        metavar="USER:PASSWORD",
        help="who may see the page. With the user's name alone, the password is taken from the environment variable "
        f"{PASSWORD}, so that no list of processes shows it",
    )
    add("--auth-file", type=Path, default=None, metavar="FILE", help="file whose only line is USER:PASSWORD")
    add(
        "--teacher",
        type=str,
        default="auto",
        help="whose pyramids are shown, and say what is near to a photo. auto: the teacher of the model's run; or the "
        "folder of a copy of it; or none",
    )
    add_encoder(parser, "the prompts")
    add_device(parser)
    return parser


def work(args: Namespace) -> None:
    from dinogen.errors import Stopped
    from dinogen.play.serving import Place, check_gradio, served
    from dinogen.play.studio import Studio

    place = Place(args.host, args.port, auth_of(args))
    check_gradio()
    studio = Studio(args.model, args.device, args.encoder, args.teacher)
    with served(studio, open_photo, place) as address:
        say_done(address, did="Serving", remark="open it in a browser; Ctrl-C ends it", address=address)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            raise Stopped("the page is closed", signal.SIGINT) from None


def auth_of(args: Namespace) -> tuple[str, str] | None:
    """Who may see the page.

    Raises:
        UsageError: two ways at once, or no name or no password.
    """
    from dinogen.errors import UsageError
    from dinogen.plain_text import read_text

    if args.auth is not None and args.auth_file is not None:
        raise UsageError("--auth and --auth-file: give one of them")
    if args.auth_file is not None:
        where, told = f"--auth-file {args.auth_file}", read_text(args.auth_file).strip()
    elif args.auth is not None:
        where, told = "--auth", args.auth
    else:
        return None
    user, colon, password = told.partition(":")
    if not colon and args.auth is not None:
        password = os.environ.get(PASSWORD, "")
    if not user or not password or "\n" in told:
        raise UsageError(f"{where}: give USER:PASSWORD, or --auth USER and the password in {PASSWORD}")
    return user, password


def open_photo(payload: bytes, resolution: int, aligned: bool) -> "Tensor":
    """The largest face of a photo, uint8 `[3, R, R]`, or what to tell whoever chose it.

    Raises:
        DinogenError: says what is wrong with the photo and what to do.
    """
    from dinogen.errors import DinogenError
    from launch.project import NO_PICTURE, crop_of
    from shards.decode import Rejected
    from shards.sources import BytesSource

    try:
        return crop_of(BytesSource("photo", payload), resolution, aligned)
    except Rejected as error:
        if error.cause == "not-square":
            remedy = "take the tick away, and its face is cut"
        elif error.cause in NO_PICTURE:
            remedy = "take a JPEG or PNG"
        else:
            remedy = "take another photo, or tick that it is a crop already"
        raise DinogenError(f"This photo cannot be used: {error.cause}, {error.detail}; {remedy}.") from error


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
