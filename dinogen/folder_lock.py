"""One folder, one writer: the lock that each command takes of the folder that it writes."""

import errno
import fcntl
import os
import platform
import sys
from pathlib import Path
from types import TracebackType

from dinogen.errors import DinogenError
from dinogen.files import make_output_folder, plain_write_errors

LOCK_NAME = ".lock"
WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # of some network drives


class FolderLock:
    """A folder's `.lock`, which says who writes there. The system opens it when that process ends, however it ends.

    Args:
        folder: made when the lock is taken.
        doing: what is done there, for whoever comes second: "is packing".
        rank, world_size: number of this process, and how many share the folder. Two of one number exclude each
            other, and each of several excludes one that wants the folder for itself.
    """

    def __init__(self, folder: Path, doing: str, rank: int = 0, world_size: int = 1):
        self.folder, self.doing = Path(folder), doing
        shared = world_size > 1
        # Its own first: whoever is refused there must not have put its name into the shared one.
        names = [*([(f"{LOCK_NAME}-{rank}", False)] if shared else []), (LOCK_NAME, shared)]
        self._files = [_LockFile(self.folder / name, shared, names_holder=rank == 0) for name, shared in names]

    def __enter__(self) -> "FolderLock":
        self.acquire()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            DinogenError: another process has it, or nothing can be written here.
        """
        make_output_folder(self.folder)
        with plain_write_errors(self.folder):
            for file in self._files:
                if (holder := file.take(f"process {os.getpid()} on {platform.node()} {self.doing}")) is not None:
                    self.release()
                    raise DinogenError(
                        f"{self.folder}: {holder or 'another process is writing'} here; wait until it ends, stop it, "
                        "or choose another --output"
                    )

    def release(self) -> None:
        """Open the lock; nothing if it was not taken."""
        for file in reversed(self._files):
            file.leave()

    def check_free(self) -> None:
        """Refuse a folder that another process writes.

        Raises:
            DinogenError: says which one.
        """
        if self._files[-1].path.exists():
            self.acquire()
            self.release()


class _LockFile:
    """One file with a lock of the system on it, and its holder's name in it."""

    def __init__(self, path: Path, shared: bool, names_holder: bool):
        self.path, self.shared, self.names_holder = path, shared, names_holder
        self.descriptor: int | None = None

    def take(self, who: str) -> str | None:
        """Take the lock and return None, or else who has it, as far as that is known."""
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if self.shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except OSError as error:
                holder = os.pread(descriptor, 300, 0).decode(errors="replace").strip()
                os.close(descriptor)
                if error.errno in WITHOUT_LOCKS:
                    print(
                        f"{self.path.parent}: this drive knows no locks; start no second command here.", file=sys.stderr
                    )
                    return None
                if isinstance(error, BlockingIOError):
                    return holder
                raise
            if self._is_there(descriptor):
                break
            os.close(descriptor)  # its last holder has just deleted it
        if self.names_holder or not self.shared:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, who.encode(errors="replace"), 0)
        self.descriptor = descriptor
        return None

    def leave(self) -> None:
        if self.descriptor is None:
            return
        try:
            # Others may share it: only the last one deletes it.
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if self._is_there(self.descriptor):
                self.path.unlink(missing_ok=True)
        except OSError:
            pass  # a lock file that stays does no harm
        os.close(self.descriptor)
        self.descriptor = None

    def _is_there(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.stat())
        except FileNotFoundError:
            return False
