"""The flags that all verbs share which draw with a generator."""

from jsonargparse.typing import NonNegativeFloat, NonNegativeInt

from launch.command import CommandParser

A_GENERATOR = "a run (its newest snapshot), a snapshot, or a hub id such as owner/name"


def add_drawing(parser: CommandParser) -> None:
    """Which samples are drawn, and on which device."""
    add = parser.add_argument
    add("--seed", type=NonNegativeInt, default=0, help="seed of the samples: another one draws other faces")
    add(
        "--truncation-psi",
        type=NonNegativeFloat,
        default=1.0,
        help="variety of the samples: 1 keeps all of it, below 1 they are safer and more alike, 0 is the average face",
    )
    add(
        "--device",
        type=str,
        default="auto",
        help="device to compute on: auto takes a GPU where there is one; or cpu, cuda",
    )
