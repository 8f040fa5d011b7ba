"""`dinogen export`: a generator for other programs."""

import shlex
import sys
from pathlib import Path

from jsonargparse import Namespace

from dinogen.advice import command_line
from launch.command import CommandParser, run_command, say_done
from launch.drawing import add_encoder, add_model, add_prompts, add_prompts_file, prompts_of

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "safetensors": "", "web": ""}


def build_parser() -> CommandParser:
    parser = CommandParser(
        "export",
        "Write a trained generator for other programs. What it draws is compared with what dinogen draws.",
        "Beside a file for onnx or torch, a .npz holds its inputs for samples 0 to 7 of seed 0. docs/draw_with_onnx.py "
        "draws them with onnxruntime, numpy and pillow alone. A folder for web is a page that any web server can hand "
        "out: the visitor's browser draws the faces.\n\n"
        "Example: dinogen export --model runs/faces --output faces.onnx --precision fp16",
    )
    add = parser.add_argument
    add_model(parser, "generator to export")
    add(
        "--output",
        type=Path,
        default=None,
        help="file to write, a .onnx, or a .pt2 for torch; a folder for safetensors and web. Default: generator, with "
        "that ending",
    )
    add(
        "--format",
        type=str,
        choices=list(SUFFIXES),
        default="onnx",
        help="kind of file. onnx: for onnxruntime. torch: a program of torch.export. safetensors: a snapshot, for "
        "dinogen. web: a page that draws in the visitor's browser",
    )
    add(
        "--precision",
        type=str,
        choices=["fp32", "fp16"],
        default=None,
        help="how weights are stored. fp16 halves the file; what is drawn is computed in 32 bits all the same. "
        "Default: fp16 for web, else fp32",
    )
    add(
        "--start",
        type=str,
        choices=["z", "w"],
        default="z",
        help="what files for onnx and torch draw from. z: noise. w: a style for each block",
    )
    add("--licence", type=str, default="not stated", help="licence of the model, kept in the file")
    add(
        "--runtime",
        type=Path,
        default=None,
        help="npm's package onnxruntime-web for a page: the .tgz of npm pack, or a folder with it. Default: npm "
        "fetches it",
    )
    add_prompts(parser, "The samples of the .npz take several texts in turn, and a page offers all of them")
    add_prompts_file(parser)
    add_encoder(parser, "--prompt or --prompts")
    return parser


def work(args: Namespace) -> None:
    from dinogen.errors import UsageError
    from dinogen.export import ExportOptions, export
    from dinogen.library import Generator
    from dinogen.web.page import export_page

    suffix = SUFFIXES[args.format]
    output = args.output or Path(f"generator{suffix}")
    if suffix and output.suffix.lower() != suffix:
        raise UsageError(f"--output {output}: a file for {args.format} must end in {suffix}")
    if not suffix and output.exists():
        raise UsageError(f"--output {output}: is there already; name a folder that is not")
    web = args.format == "web"
    if web and args.start != "z":
        raise UsageError(f"--start {args.start}: a page draws from seeds; leave it out")
    if args.runtime is not None and not web:
        raise UsageError(f"--runtime {args.runtime}: is for --format web alone; leave it out")
    prompts = prompts_of(args)
    if prompts and args.format == "safetensors":
        raise UsageError("--prompt: a snapshot holds no samples that could take it; leave it out")
    generator = Generator.from_pretrained(args.model, "cpu", args.encoder)
    precision = args.precision or ("fp16" if web else "fp32")
    if web:
        options = ExportOptions(precision=precision, licence=args.licence)
        off = export_page(generator, output, options, prompts, args.runtime)
    else:
        off = export(generator, output, ExportOptions(args.format, precision, args.start, args.licence), prompts)
    following = {
        "web": f"python -m http.server --directory {shlex.quote(str(output))}",
        "onnx": f"python docs/draw_with_onnx.py {shlex.quote(str(output))}",
        "torch": None,
        "safetensors": command_line("sample", model=output),
    }
    remark = f"its pixels are at most {off} of 255 grey levels off"
    say_done(output, following[args.format], remark=remark, off=off)


def main(argv: list[str] | None = None) -> int:
    return run_command(build_parser(), work, argv)


if __name__ == "__main__":
    sys.exit(main())
