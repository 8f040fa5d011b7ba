"""The flags that `dinogen evaluate` and `dinogen compare` share."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeFloat, NonNegativeInt, PositiveInt

from launch.command import CommandParser

if TYPE_CHECKING:
    from dinogen.evaluate.model import Terms


def add_terms(parser: CommandParser) -> None:
    """On what terms generators are judged, and on which device."""
    parser.add_argument(
        "--reference", type=Path, required=True, help="real images: the shards of training, or a folder of face crops"
    )
    parser.add_argument("--count", type=PositiveInt, default=300, help="samples of each; distances grow with fewer")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, help="of the samples; as in dinogen sample")
    parser.add_argument(
        "--truncation-psi", type=NonNegativeFloat, default=1.0, help="below 1: safer, more alike; 0: the average face"
    )
    parser.add_argument(
        "--inception",
        type=str,
        default=None,
        help="also distances in Inception's features: torch-fidelity's weights, a file, or auto to download them",
    )
    parser.add_argument(
        "--clip", type=str, default=None, help="also distances in CLIP's features: a folder, or a hub id"
    )
    parser.add_argument(
        "--teacher",
        type=str,
        default="auto",
        help="whose view is reported as the training signal: auto takes the one that the shards were packed with; none",
    )
    parser.add_argument("--device", type=str, default="auto", help="auto takes a GPU where there is one; or cpu, cuda")


def make_terms(args: Namespace) -> "Terms":
    """What the flags say."""
    from dinogen.evaluate.model import Terms

    return Terms(**{name: args[name] for name in Terms.__dataclass_fields__})
