"""Dies by SIGKILL at a chosen moment of a save.

As a script: `python dying.py MOMENT NUMBER …` trains as launch.train does and dies in that save; with
`python dying.py saves FOLDER` it saves and dies once for each moment, in FOLDER/MOMENT.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from dinogen import files
from dinogen.train import checkpoint

WRITTEN = ("generator", "ema", "optimizer", "random")
MOMENTS = ("before", *(f"in {name}" for name in WRITTEN), "in state", "before rename", "after rename", "in clean-up")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in(moment: str, number: int = 1) -> None:
    """From now on this process dies in its save with that number, counted from 1."""
    saves = 0
    save_file, write_json, replace, rmtree = checkpoint.save_file, checkpoint.write_json, os.replace, shutil.rmtree

    def dying_save_file(tensors: dict, path: Path) -> None:
        nonlocal saves
        saves += path.stem == WRITTEN[0]
        if saves == number and moment == "before":
            die()
        save_file(tensors, path)
        if saves == number and moment == f"in {path.stem}":
            os.truncate(path, path.stat().st_size // 2)
            die()

    def dying_write_json(path: Path, value: dict) -> None:
        write_json(path, value)
        if saves == number and moment == "in state":
            os.truncate(path, path.stat().st_size // 2)
            die()

    def dying_replace(source: Path, target: Path) -> None:
        final = saves == number and Path(target).name.startswith("nimg")
        if final and moment == "before rename":
            die()
        replace(source, target)
        if final and moment == "after rename":
            die()

    def dying_rmtree(path: Path, **options) -> None:
        if saves == number and moment == "in clean-up" and path.exists():
            (path / "ema.safetensors").unlink()
            die()
        rmtree(path, **options)

    checkpoint.save_file, checkpoint.write_json = dying_save_file, dying_write_json
    files.os.replace, files.shutil.rmtree = dying_replace, dying_rmtree


def save_and_die(folder: Path) -> None:
    from helpers.small_checkpoint import STATE, contents

    tensors = contents()  # before any fork: autograd does not survive one
    for moment in MOMENTS:
        child = os.fork()
        if child == 0:
            checkpoint.save_checkpoint(folder / moment, 8, tensors, STATE, keep=1)
            die_in(moment)
            checkpoint.save_checkpoint(folder / moment, 16, tensors, STATE, keep=1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"it lived through '{moment}'")


if __name__ == "__main__":
    if sys.argv[1] == "saves":
        save_and_die(Path(sys.argv[2]))
    else:
        from launch.train import main

        die_in(sys.argv[1], int(sys.argv[2]))
        sys.exit(main(sys.argv[3:]))
