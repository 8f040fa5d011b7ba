"""The flags that `dinogen evaluate` and `dinogen compare` share."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from launch.command import CommandParser
from launch.drawing import AtLeastOne, add_drawing

if TYPE_CHECKING:
    from dinogen.evaluate.court import Terms


def add_terms(parser: CommandParser) -> None:
    """On what terms generators are judged, and on which device."""
    parser.add_argument(
        "--data",
        type=str,
        default=None,
        help="real images to compare with: a folder of shards or its address, or a folder of face crops; "
        "default: the data of the run",
    )
    parser.add_argument(
        "--count",
        type=PositiveInt,
        default=300,
        help="number of samples to draw; below 100, distances are mostly chance",
    )
    add_drawing(parser)
    parser.add_argument(
        "--inception",
        type=str,
        default=None,
        help="weights of Inception, to report distances in its features as well: torch-fidelity's file, "
        "or auto to download it",
    )
    parser.add_argument(
        "--clip",
        type=str,
        default=None,
        help="a CLIP, to report distances in its features as well: a folder or a hub id",
    )
    parser.add_argument(
        "--teacher",
        type=str,
        default="auto",
        help="teacher whose view is reported as the training signal: auto takes that of the shards; none leaves it out",
    )
    parser.add_argument(
        "--attributes",
        type=Path | None,
        default=None,
        help="file of attributes that prompts ask for, in YAML or JSON; only for models that take words",
    )
    parser.add_argument(
        "--encoder",
        type=str,
        default=None,
        help="text encoder of the models, where it is not where it was in training: a folder or a hub id",
    )
    parser.add_argument(
        "--guidance",
        type=AtLeastOne,
        default=1.0,
        help="how far words are exaggerated, at the cost of variety: 1 is not at all, and the words.guidance of "
        "training is the most",
    )
    parser.add_argument(
        "--sweep-guidance",
        action="store_true",
        help="draw the prompts of --attributes with four values of guidance, and plot obedience and diversity",
    )


def make_terms(args: Namespace) -> "Terms":
    """What the flags say.

    Raises:
        UsageError: see `read_attributes`; or a sweep without attributes.
    """
    from dinogen.errors import UsageError
    from dinogen.evaluate.attributes import read_attributes
    from dinogen.evaluate.court import Terms

    if args.sweep_guidance and args.attributes is None:
        raise UsageError("--sweep-guidance draws the prompts of attributes; give --attributes too")
    given: dict[str, Any] = {name: args[name] for name in Terms.__dataclass_fields__}
    given["attributes"] = [] if args.attributes is None else read_attributes(args.attributes)
    return Terms(**given)
