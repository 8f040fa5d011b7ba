"""Starting a new run from somebody's snapshot instead of from random weights."""

from dinogen.config import RunConfig
from dinogen.errors import DinogenError, UsageError
from dinogen.networks import Generator
from dinogen.networks.synthesis import block_resolutions
from dinogen.opening import load_generator


def start_from_snapshot(network: Generator, config: RunConfig) -> None:
    """Give a new generator the weights that `init_from` names.

    It may be a smaller one: blocks finer than its own keep the random weights that they have, to be grown.

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
    weights |= {name: values for name, values in wanted.items() if name.startswith(fresh)}
    for name in sorted(weights.keys() | wanted.keys()):
        shapes = [tuple(values[name].shape) if name in values else None for values in (weights, wanted)]
        if shapes[0] != shapes[1]:
            raise DinogenError(
                f"init_from {source}: {name} is {shapes[0]} there and {shapes[1]} by this config; give the "
                "generator.* keys that are in its config.json"
            )
    network.load_state_dict(weights)
