"""Serving the page: to this machine alone, or to others who know a password; nothing is asked of other servers."""

import ipaddress
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dinogen.errors import DinogenError, UsageError, first_line
from dinogen.play.studio import Studio

LOOPBACK = "127.0.0.1"
PORT = 7860
TEMPORARY = "GRADIO_TEMP_DIR"
# The browser itself refuses whatever would come from elsewhere. Gradio's own scripts need the exceptions.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)

App = Callable[..., Awaitable[None]]


@dataclass(frozen=True)
class Place:
    """Where the page is served.

    Args:
        host: address to listen on.
        port: to listen on.
        auth: user and password; None lets everybody in who reaches the host.

    Raises:
        UsageError: others than this machine would reach it without a password.
    """

    host: str = LOOPBACK
    port: int = PORT
    auth: tuple[str, str] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.auth is None and not is_loopback(self.host):
            raise UsageError(
                f"--host {self.host}: other machines would reach the page; give --auth USER:PASSWORD too, or leave "
                "--host out and come through an SSH tunnel"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guarded:
    """Adds the page's policy to every answer (ASGI)."""

    def __init__(self, app: App):
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: App, send: App) -> None:
        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                told = [(b"content-security-policy", POLICY.encode()), (b"x-content-type-options", b"nosniff")]
                message["headers"] = [*message.get("headers", []), *told]
            await send(message)

        await self.app(scope, receive, guarded)


def check_gradio() -> None:
    """Say how Gradio is installed where it is not.

    Raises:
        DinogenError: it is missing.
    """
    if find_spec("gradio") is None:
        raise DinogenError('the page needs gradio; pip install "dinogen[play]"')


@contextmanager
def served(studio: Studio, open_photo: Callable, place: Place) -> Iterator[str]:
    """Serve the playground while entered, and give its address. What was uploaded or drawn is deleted at the end.

    Args:
        studio: draws.
        open_photo: see `Answers`.
        place: where.

    Raises:
        DinogenError: Gradio is missing, or the page cannot be served.
        UsageError: the host or the port cannot be taken.
    """
    check_gradio()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    before = os.environ.get(TEMPORARY)
    with tempfile.TemporaryDirectory(prefix="dinogen-play-", ignore_cleanup_errors=True) as folder:
        os.environ[TEMPORARY] = folder
        try:
            from gradio.themes import Default
            from starlette.middleware import Middleware

            from dinogen.play.answers import Answers
            from dinogen.play.page import CSS, PHOTO_MEGABYTES, Page

            blocks = Page(Answers(studio, open_photo, Path(folder))).build()
            fonts = ["system-ui", "sans-serif"]
            options = {
                "theme": Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
                "css": CSS,
                "max_file_size": f"{PHOTO_MEGABYTES}mb",
                "app_kwargs": {"middleware": [Middleware(Guarded)]},
            }
            try:
                yield launch(blocks, place, options)
            finally:
                blocks.close(verbose=False)
        finally:
            os.environ.pop(TEMPORARY)
            if before is not None:
                os.environ[TEMPORARY] = before


def launch(blocks: Any, place: Place, options: dict[str, Any]) -> str:
    """Start Gradio's server in the background: its address."""
    host = f"[{place.host}]" if ":" in place.host.strip("[]") else place.host
    try:
        _, address, _ = blocks.launch(
            server_name=host.replace("[[", "[").replace("]]", "]"), server_port=place.port, auth=place.auth,
            prevent_thread_lock=True, quiet=True, share=False, inbrowser=False, footer_links=[], run_history=False,
            ssr_mode=False, mcp_server=False, pwa=False, enable_monitoring=False, **options,
        )  # fmt: skip
    except OSError as error:
        raise UsageError(
            f"--host {place.host} --port {place.port}: cannot be taken ({first_line(error)[:120]}); give another --port"
        ) from error
    except ValueError as error:  # Gradio asks its own page once whether it is there
        raise DinogenError(
            f"the page does not answer on {place.host} ({first_line(error)[:120]}); where a proxy is set, set "
            "NO_PROXY=localhost,127.0.0.1 too"
        ) from error
    return address
