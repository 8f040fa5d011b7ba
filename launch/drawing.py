"""The flags that all verbs share which draw with a generator."""

from pathlib import Path

from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeFloat, restricted_number_type

from launch.command import CommandParser
from launch.options import Seed

AtLeastOne = restricted_number_type("AtLeastOne", float, (">=", 1))

A_GENERATOR = "a run (its newest snapshot), a snapshot, or a hub id such as owner/name"
BUNDLED = "bundled"  # as in dinogen.opening, which takes long to import


def add_model(parser: CommandParser, of: str) -> None:
    """Which generator; `of` says what for."""
    parser.add_argument(
        "--model",
        type=str,
        default=BUNDLED,
        help=f"{of}: {A_GENERATOR}. The bundled one draws people who do not exist, at 128×128 pixels",
    )


def add_drawing(parser: CommandParser) -> None:
    """Which samples are drawn, and on which device."""
    add = parser.add_argument
    add("--seed", type=Seed, default=0, help="seed of the samples: another one draws other faces")
    add(
        "--truncation-psi",
        type=NonNegativeFloat,
        default=1.0,
        help="variety of the samples: 1 keeps all of it, below 1 they are safer and more alike, 0 is the average face",
    )
    add_device(parser)


def add_device(parser: CommandParser) -> None:
    """Where to compute."""
    parser.add_argument(
        "--device",
        type=str,
        default="auto",
        help="device to compute on: auto takes a GPU where there is one; or cpu, cuda",
    )


def add_prompts(parser: CommandParser, several: str) -> None:
    """Words that steer what is drawn.

    Args:
        parser: of the verb.
        several: what becomes of several texts, as a sentence for the help.
    """
    parser.add_argument(
        "--prompt",
        type=str,
        nargs="+",
        action="extend",
        default=None,
        metavar="TEXT",
        help=f"words that say what the faces shall be like, in quotes. {several}. For models that were trained with "
        "captions: without a prompt, or with an empty one, they draw whatever comes",
    )


def add_prompts_file(parser: CommandParser) -> None:
    """Words from a file instead."""
    parser.add_argument(
        "--prompts", type=Path, default=None, metavar="FILE", help="text file in UTF-8 with a prompt a line"
    )


def add_words(parser: CommandParser, of: str) -> None:
    """How words steer what is drawn.

    Args:
        parser: of the verb.
        of: the flags that give the words, for the help.
    """
    parser.add_argument(
        "--guidance",
        type=AtLeastOne,
        default=1.0,
        help=f"how far the words of {of} are exaggerated, at the cost of variety. 1 is not at all, and the "
        "words.guidance of training is the most",
    )
    add_encoder(parser, of)


def add_encoder(parser: CommandParser, of: str) -> None:
    """Where the text encoder is now; `of` are the flags that give the words."""
    parser.add_argument(
        "--encoder",
        type=str,
        default=None,
        help=f"text encoder that reads {of}, where it is not where it was in training: a folder or a hub id",
    )


def check_words(args: Namespace, given: bool, of: str) -> None:
    """Refuse flags about words without words.

    Raises:
        UsageError: says which.
    """
    from dinogen.errors import UsageError

    if args.guidance != 1 and not given:
        raise UsageError(f"--guidance {args.guidance:g} exaggerates words, and there are none; give {of} too")
    if args.encoder is not None and not given:
        raise UsageError(f"--encoder {args.encoder} reads words, and there are none; give {of} too")


def tidy(text: str, where: str) -> str:
    """A text with one space for each white space.

    Raises:
        UsageError: it came in another encoding than UTF-8.
    """
    from dinogen.errors import UsageError

    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{where}: cannot be read as UTF-8 text") from error
    return " ".join(text.split())


def prompts_of(args: Namespace) -> list[str]:
    """The prompts that were asked for.

    Raises:
        UsageError: two ways at once, or a file that cannot be read or has none.
    """
    from dinogen.errors import UsageError
    from dinogen.plain_text import read_text

    if args.prompts is None:
        return [tidy(prompt, "--prompt") for prompt in args.prompt or ()]
    if args.prompt:
        raise UsageError("--prompt and --prompts: give one of them")
    # Not by `splitlines`, which ends a line at characters that may stand within one.
    lines = [tidy(line, str(args.prompts)) for line in read_text(args.prompts).split("\n")]
    if not any(lines):
        raise UsageError(f"{args.prompts}: no prompts here; write one a line")
    return [line for line in lines if line]
