"""onnxruntime-web, which runs models in browsers: taken from npm, or from where npm's package already lies."""

import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from dinogen.errors import DinogenError, UsageError

PACKAGE = "onnxruntime-web@1.30.0"
# What a page loads, by sha256: a page draws with the very files that it was tested with, wherever they came from.
FILES = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
PLACES = (".", "dist", "package/dist", "onnxruntime-web/dist", "node_modules/onnxruntime-web/dist")
REMEDY = f"where npm and a network are, run `npm pack {PACKAGE}`, and give the .tgz that it writes with --runtime"
SAID = re.compile(r"^npm (?:error|ERR!) (?!code |syscall |errno )(.+)$", re.M)  # the first line in words
SECONDS = 600  # npm fetches 33 MB


def read_runtime(given: Path | None = None) -> dict[str, bytes]:
    """The files of onnxruntime-web that a page needs.

    Args:
        given: npm's package: the .tgz of `npm pack`, a folder of it, or one with its node_modules. None asks npm.

    Returns:
        The files' bytes by their names.

    Raises:
        UsageError: they are not there, or are those of another version, or there is no npm.
        DinogenError: npm does not give them.
    """
    found = from_npm() if given is None else from_folder(given) if given.is_dir() else from_archive(given)
    for name, payload in found.items():
        if hashlib.sha256(payload).hexdigest() != FILES[name]:
            raise UsageError(f"{given or PACKAGE}: its {name} is not that of {PACKAGE}; {REMEDY}")
    return found


def from_folder(folder: Path) -> dict[str, bytes]:
    """The files in a folder, see `read_runtime`."""
    for place in PLACES:
        paths = {name: folder / place / name for name in FILES}
        if all(path.is_file() for path in paths.values()):
            return {name: path.read_bytes() for name, path in paths.items()}
    raise UsageError(f"{folder}: {' and '.join(FILES)} are not here; {REMEDY}")


def from_archive(path: Path) -> dict[str, bytes]:
    """The files in what `npm pack` has written, see `read_runtime`."""
    if not path.is_file():
        raise UsageError(f"{path}: no such file or folder; {REMEDY}")
    found = {}
    try:
        with tarfile.open(path) as archive:
            for name in FILES:
                member = archive.extractfile(f"package/dist/{name}")
                assert member is not None
                found[name] = member.read()
    except (tarfile.TarError, OSError, EOFError, KeyError, AssertionError) as error:
        raise UsageError(f"{path}: not a whole package of {PACKAGE}; {REMEDY}") from error
    return found


def from_npm() -> dict[str, bytes]:
    """The files as npm fetches them, or keeps them from an earlier time."""
    npm = shutil.which("npm")
    if npm is None:
        raise UsageError(f"--format web takes {PACKAGE} from npm, which is not installed; install npm, or {REMEDY}")
    command = [npm, "pack", PACKAGE, "--ignore-scripts", "--prefer-offline", "--fetch-retries=1", "--loglevel=error"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise DinogenError(f"npm did not give {PACKAGE} in {SECONDS} seconds; {REMEDY}") from error
        archives = list(Path(folder).glob("*.tgz"))
        if done.returncode != 0 or not archives:
            said = SAID.search(done.stderr)
            reason = said[1].strip() if said else f"it ended with code {done.returncode}"
            raise DinogenError(f"npm did not give {PACKAGE} ({reason}); {REMEDY}")
        return from_archive(archives[0])
