"""Files of styles: `w.safetensors`, a face as a generator's own numbers."""

import sys
from pathlib import Path

from safetensors.torch import save
from torch import Tensor, float32

from dinogen.errors import DinogenError
from dinogen.files import atomic_file
from dinogen.networks import Generator
from dinogen.tensor_files import DamagedFile, metadata_of, read_tensors

STYLE_FILE = "w.safetensors"


def save_style(w: Tensor, network: Generator, path: Path) -> None:
    """Write a face whole or not at all.

    Args:
        w: `[blocks, w_dim]`.
        network: the generator that draws it.
        path: a `.safetensors`.
    """
    with atomic_file(path) as temporary:
        temporary.write_bytes(style_bytes(w, network))


def style_bytes(w: Tensor, network: Generator) -> bytes:
    """What `save_style` writes."""
    return save({"w": w.detach().cpu().contiguous()}, metadata={"generator": network.fingerprint})


def read_style(path: Path, network: Generator) -> Tensor:
    """The face of a file, `[blocks, w_dim]` on the CPU.

    Raises:
        DinogenError: no such file, or no styles of this generator's sizes.
    """
    try:
        shape = len(network.synthesis.blocks), network.w_dim
        w = read_tensors(path, {"w": (shape, float32)})["w"]
        maker = metadata_of(path).get("generator")
    except DamagedFile as error:
        raise DinogenError(f"{error}; it takes a {STYLE_FILE} that dinogen project wrote for this model") from error
    if maker != network.fingerprint:
        print(f"{path}: of another generator than this one, which may draw another face from it", file=sys.stderr)
    return w
