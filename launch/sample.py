"""`dinogen sample`: draw faces with a trained generator."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt

from dinogen.advice import command_line, counted
from launch.command import CommandParser, run_command, say_done
from launch.drawing import add_drawing, add_model, add_prompts, add_prompts_file, add_words, check_words, prompts_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

COUNT = 64
COUNT_OF_EACH = 8  # with several prompts
GRID_IMAGES = 100
TABLE_ROWS, TABLE_COLUMNS = 24, 12
PROMPTS = "--prompt or --prompts"


def build_parser() -> CommandParser:
    parser = CommandParser(
        "sample",
        "Draw faces with a trained generator: one PNG each, and grid.png to look at.",
        "Sample number i depends on --seed, i and its prompt alone: drawing more of them later does not change the "
        "first ones. seed0007-000012.png is sample 12 of seed 7. With several prompts, "
        "prompt0003-seed0007-000012.png is that of prompt 3, counted from 0. Model, seed, truncation and prompt are "
        "kept in the file.\n\n"
        'Example: dinogen sample --model runs/faces --prompt "a man with glasses" "a woman with red hair"',
    )
    add = parser.add_argument
    add_model(parser, "generator to draw with")
    add(
        "--count",
        type=PositiveInt,
        default=None,
        help=f"number of faces to draw, of each prompt if there are some (default: {COUNT}, with several prompts "
        f"{COUNT_OF_EACH})",
    )
    add(
        "--output",
        type=Path,
        default=Path("samples"),
        help=f"folder for the faces and grid.png of the first {GRID_IMAGES}. With several prompts it has a row for "
        f"each of the first {TABLE_ROWS}, with the same {TABLE_COLUMNS} faces at most in other words. A folder that "
        "has samples of another seed, model, truncation or prompt is refused",
    )
    add("--replace", action="store_true", help="delete such samples from the folder")
    add_prompts(parser, "Several texts are several prompts")
    add_prompts_file(parser)
    add(
        "--style",
        type=str,
        nargs="+",
        default=None,
        metavar="FILE",
        help="files of styles, as dinogen project writes them: their faces are drawn instead of samples",
    )
    add_words(parser, PROMPTS)
    add_drawing(parser)
    return parser


@dataclass
class Series:
    """The faces of one prompt.

    Args:
        prompt: None where there is none.
        prefix: of the files' names.
        about: what the files keep.
    """

    prompt: str | None
    prefix: str
    about: str


def work(args: Namespace) -> None:
    import torch

    from dinogen.folder_lock import FolderLock
    from dinogen.images import save_png, to_pil
    from dinogen.library import Generator
    from dinogen.progress import progress_bar
    from dinogen.sample import describe_sample, sample_batches

    prompts = prompts_of(args)
    check_words(args, bool(prompts), PROMPTS)
    if args.style:
        draw_styles(args, bool(prompts))
        return
    generator = Generator.from_pretrained(args.model, args.device, args.encoder)
    if prompts:
        generator.words_of(prompts, args.guidance)  # refuses what cannot be drawn before anything is written
        generator.reader.vectors(prompts)  # all of them, so that it is said before the drawing which are too long
    output = args.output
    drawn_with = generator.network, args.seed, args.truncation_psi
    series = list(series_of(prompts, lambda prompt: describe_sample(*drawn_with, prompt, args.guidance)))
    count = args.count or (COUNT_OF_EACH if len(series) > 1 else COUNT)
    others = others_in(output, {each.about for each in series}, args.replace)
    shown, most = [], GRID_IMAGES if len(series) == 1 else TABLE_COLUMNS
    with FolderLock(output, "is drawing"), progress_bar(count * len(series), "drawing") as bar:
        delete(others)
        for each in series:
            words = generator.words_of(each.prompt, args.guidance)
            names = names_of(args.seed, count)
            drawn = []
            for batch in sample_batches(generator.network, count, args.seed, args.truncation_psi, words=words):
                for image in batch:
                    save_png(to_pil(image), output / f"{each.prefix}{next(names)}", each.about)
                    bar.update()
                    drawn += [image] if len(drawn) < most else []
            shown += [torch.stack(drawn)] if len(shown) < TABLE_ROWS else []
        save_png(overview(shown, [each.prompt for each in series]), output / "grid.png")
    ways = {"from": prompts[0], "to": prompts[1]} if len(prompts) > 1 else {}
    moved = {"encoder": args.encoder} if ways and args.encoder else {}
    walk = command_line("interpolate", model=args.model, output="faces.mp4", **ways, **moved)
    remark = f"{counted(count, 'face')}{' of each prompt' if len(series) > 1 else ''} and grid.png"
    say_done(output, walk, remark=remark, faces=count * len(series))


def draw_styles(args: Namespace, prompted: bool) -> None:
    """The faces of files of styles."""
    import torch

    from dinogen.errors import UsageError
    from dinogen.folder_lock import FolderLock
    from dinogen.images import save_png, to_pil
    from dinogen.library import Generator
    from dinogen.styles import read_style

    if prompted or args.count is not None:
        raise UsageError("--style draws the faces of its files alone; leave --count and prompts out")
    generator = Generator.from_pretrained(args.model, args.device)
    w = torch.stack([read_style(Path(path), generator.network) for path in args.style])
    abouts = [f"model {generator.network.fingerprint}, style {path}" for path in args.style]
    others = others_in(args.output, set(abouts), args.replace)
    images = generator.draw(w, output="pt")
    with FolderLock(args.output, "is drawing"):
        delete(others)
        for number, (image, about) in enumerate(zip(images, abouts)):
            save_png(to_pil(image), args.output / f"style{number:04d}.png", about)
        save_png(overview([images], [None]), args.output / "grid.png")
    walk = None
    if len(args.style) > 1:
        ways = {"from": args.style[0], "to": args.style[1]}
        walk = command_line("interpolate", model=args.model, output="faces.mp4", **ways)
    say_done(args.output, walk, remark=f"{counted(len(w), 'face')} and grid.png", faces=len(w))


def series_of(prompts: list[str], about: Callable[[str | None], str]) -> Iterator[Series]:
    """What is to be drawn; `about` says what the files of a prompt keep."""
    if not prompts:
        yield Series(None, "", about(None))
    for number, prompt in enumerate(prompts):
        prefix = f"prompt{number:04d}-" if len(prompts) > 1 else ""
        yield Series(prompt, prefix, about(prompt))


def names_of(seed: int, count: int) -> Iterator[str]:
    """The ends of the files' names."""
    return (f"seed{seed:04d}-{index:06d}.png" for index in range(count))


def overview(shown: "list[Tensor]", prompts: list[str | None]) -> "Image":
    """All faces of one prompt, or a row for each prompt, whose columns have the same latents.

    Args:
        shown: uint8 `[n, 3, R, R]` each, of the first prompts.
        prompts: of all of them.
    """
    from dinogen.images import grid_columns, image_grid, titled, viewing_scale

    scale = viewing_scale(shown[0].shape[-1])
    if prompts == [None]:
        return image_grid(shown[0], grid_columns(len(shown[0])), scale)
    titles = [prompt or "(no words)" for prompt in prompts]
    if len(shown) == 1:
        return titled([image_grid(shown[0], grid_columns(len(shown[0])), scale)], titles)
    rows = [image_grid(images, len(images), scale) for images in shown]
    return titled(rows, [f"{number}: {titles[number]}" for number in range(len(shown))])


def others_in(folder: Path, ours: set[str], replace: bool) -> list[Path]:
    """Samples in a folder that are others than those to be drawn, so that a folder is of one model and seed.

    Args:
        folder: may be missing.
        ours: what the files to be drawn keep.
        replace: whether there may be others.

    Raises:
        UsageError: there are others.
    """
    from dinogen.errors import UsageError
    from dinogen.images import said_of

    patterns = ("prompt*-seed*.png", "seed*.png", "style*.png")
    said = {path: said_of(path) for pattern in patterns for path in sorted(folder.glob(pattern))}
    others = [path for path, about in said.items() if about is not None and about not in ours]
    if others and not replace:
        raise UsageError(
            f"{folder} has {counted(len(others), 'sample')} of another seed, model, truncation or prompt, such as "
            f"{others[0].name}; choose another --output, or delete them with --replace"
        )
    return others


def delete(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
