"""What a new run starts from: somebody's snapshot instead of random weights, and codes of its real images."""

from pathlib import Path

from torch import Tensor

from dinogen.codes import Coder
from dinogen.config import RunConfig
from dinogen.data.loader import load_pyramids
from dinogen.errors import DinogenError, UsageError
from dinogen.networks import Generator
from dinogen.networks.generator import TEXT_PARTS
from dinogen.networks.synthesis import block_resolutions
from dinogen.opening import load_generator
from dinogen.pyramid import PyramidSpec
from dinogen.train.wording import MOST_CODED, Wording

CODE_NUMBERS = 128  # what images show, for captions


def start_from_snapshot(network: Generator, config: RunConfig) -> None:
    """Give a new generator the weights that `init_from` names.

    It may be a smaller one: blocks finer than its own keep the random weights that they have, to be grown. It may also
    have been trained without text, or without attention to tokens: these start at zero, and change no image.

    Args:
        network: of the sizes that the config says.
        config: of the run.

    Raises:
        UsageError, DinogenError: nothing to open there, a generator of other sizes, or one that does not yet draw
            at the resolution at which the run starts.
    """
    source = str(config.init_from)
    snapshot = load_generator(source)
    if snapshot.trained_resolution < config.schedule.start_resolution:
        raise UsageError(
            f"init_from {source} draws {snapshot.trained_resolution}×{snapshot.trained_resolution}; finer blocks "
            f"are not trained yet: take schedule.start_resolution {snapshot.trained_resolution}"
        )
    weights, wanted = snapshot.state_dict(), network.state_dict()
    finer = [size for size in block_resolutions(network.img_resolution) if size > snapshot.img_resolution]
    fresh = tuple(f"synthesis.blocks.b{size}." for size in finer)
    for name, values in wanted.items():
        if name.startswith(fresh) or (name.startswith(TEXT_PARTS) and name not in weights):
            weights[name] = values
    for name in sorted(weights.keys() | wanted.keys()):
        shapes = [tuple(values[name].shape) if name in values else None for values in (weights, wanted)]
        if shapes[0] != shapes[1]:
            words = name.startswith(TEXT_PARTS)
            keys = "words.* keys of its run" if words else "generator.* keys that are in its config.json"
            raise DinogenError(
                f"init_from {source}: {name} is {shapes[0]} there and {shapes[1]} by this config; give the {keys}"
            )
    network.load_state_dict(weights)


def fit_wording(wording: Wording, spec: PyramidSpec, data: Path | str, stage: int) -> None:
    """Fit the whitening of captions to what of them shows in images. Call on all ranks.

    Args:
        wording: of the run.
        spec: of the pyramids.
        data: the shards.
        stage: resolution of the stage whose pyramids to read.
    """

    def codes(count: int) -> Tensor:
        """Codes that leave nothing out tell what images show, in uncorrelated numbers."""
        stored = load_pyramids(data, min(count, MOST_CODED), stage)
        coder = Coder(spec, CODE_NUMBERS)
        coder.fit(stored)
        return coder(stored)

    wording.fit(codes)


def fit_coder(coder: Coder, data: Path | str, stage: int, wording: Wording | None) -> dict[str, Tensor]:
    """Make the axes of a coder from some of the shards' pyramids at a stage; returns what it then holds.

    With words, codes leave out what all captions of the same samples tell.
    """
    coder.fit(load_pyramids(data, MOST_CODED, stage), wording and wording.first_wholes(MOST_CODED).cpu())
    return coder.tensors()
