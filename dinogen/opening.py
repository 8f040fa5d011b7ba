"""Opening a trained generator: a run, a snapshot, or a model on the hub."""

import re
import sys
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import logging as hub_logging

from dinogen.advice import no_folder
from dinogen.errors import DinogenError, UsageError, first_line
from dinogen.networks import Generator
from dinogen.snapshot import open_snapshot

BUNDLED = "bundled"  # the name of the snapshot inside this package
BUNDLED_FOLDER = Path(__file__).parent / "bundled"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def choose_device(name: str) -> torch.device:
    """`auto` is the GPU where there is one, else the CPU; anything else is taken by its torch name.

    Raises:
        UsageError: this machine, or this torch, has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
        return device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"--device {name} cannot be used on this machine; take auto or cpu") from error


def load_generator(model: str | Path, device: torch.device | str = "cpu") -> Generator:
    """Open a snapshot for drawing. Only safetensors are read, never a pickle.

    Args:
        model: a run's folder (its newest snapshot is taken), a snapshot's folder, a hub id such as `owner/name`, or
            `bundled`.
        device: where the generator shall lie.

    Raises:
        UsageError: nothing of that name, or a folder without a snapshot.
        DinogenError: the hub does not give it, or its files are broken or do not fit each other.
    """
    config, weights = locate(model, CONFIG_FILE, WEIGHTS_FILE)
    generator = open_snapshot(config, weights)
    return generator.to(device).eval().requires_grad_(False)


def folder_of(model: str | Path) -> Path:
    """The folder that a `--model` names, if it names one; `./bundled` is one of that name here."""
    return BUNDLED_FOLDER if str(model) == BUNDLED else Path(model).expanduser()


def newest_snapshot(run: Path) -> Path | None:
    """The snapshot of a run with the highest clock reading, or None."""
    found = [folder for folder in (run / "snapshots").glob("kimg*") if re.fullmatch(r"kimg\d+(\.\d+)?", folder.name)]
    return max(found, key=lambda folder: float(folder.name.removeprefix("kimg")), default=None)


def locate(model: str | Path, *names: str) -> list[Path]:
    """Files of the snapshot that a `--model` names; those of a hub id are fetched.

    Raises:
        UsageError, DinogenError: see `load_generator`.
    """
    model = str(model)
    folder = folder_of(model)
    if folder.is_dir():
        snapshot = folder if (folder / WEIGHTS_FILE).exists() else newest_snapshot(folder)
        if snapshot is None:
            raise UsageError(
                f"{model}: no snapshot here; pass a run that has saved one, or a folder with {WEIGHTS_FILE}"
            )
        for name in names:
            if not (snapshot / name).is_file():
                raise DinogenError(f"{snapshot}: {name} is missing; copy the whole snapshot again")
        return [snapshot / name for name in names]
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", model) or folder.parent.is_dir():
        raise UsageError(no_folder(model, "--model takes a run, a snapshot or a hub id such as owner/name"))
    return [_download(model, name) for name in names]


def _download(hub_id: str, name: str) -> Path:
    print(f"{hub_id}: no such folder here, asking the hub for {name}", file=sys.stderr)
    hub_logging.set_verbosity_error()  # its retries would bury our one line
    try:
        return Path(hf_hub_download(hub_id, name))
    except (OSError, ValueError) as error:
        raise DinogenError(
            f"{hub_id}: no such folder here, and the hub did not give {name} ({first_line(error)}); "
            "check the name and the network, or pass a folder"
        ) from error


def run_of(model: str | Path) -> Path | None:
    """The run that a model is, or whose snapshot it is; None for any other folder or a hub id."""
    folder = folder_of(model)
    runs = [run for run in (folder, folder.absolute().parent.parent) if (run / "config.yaml").is_file()]
    return runs[0] if runs else None
