"""A trained generator for other programs: as an ONNX file, as a torch program, or as a smaller snapshot."""

import copy
import io
import json
import shutil
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.export import ExportedProgram

from dinogen import __version__
from dinogen.advice import public_name
from dinogen.data.schema import NOT_STATED
from dinogen.errors import DinogenError, UsageError
from dinogen.files import atomic_folder, write_bytes
from dinogen.images import to_uint8
from dinogen.library import Generator
from dinogen.model_card import CARD_NAME, PICTURE_NAME, Publication, published_card
from dinogen.networks import Generator as GeneratorNetwork
from dinogen.networks import Words
from dinogen.opening import CONFIG_FILE, WEIGHTS_FILE, load_generator, locate, run_of
from dinogen.pyramid import read_specs
from dinogen.reader import NOTES_FILE, WHITENING_FILE
from dinogen.sample import draw, latents
from dinogen.tensor_files import DamagedFile, metadata_of, read_json

NEEDED = ("onnx", "onnxscript", "onnxruntime")
OPSET = 18
COUNT = 8  # samples whose inputs are written beside a file
MOST_OFF = 1  # grey levels
ABOUT_FILE = "dinogen.json"  # in a torch program

Inputs = dict[str, Tensor]
Run = Callable[[Mapping[str, Tensor]], np.ndarray]


@dataclass(frozen=True)
class ExportOptions:
    """What is exported.

    Args:
        format: kind of file. onnx is a model for onnxruntime. torch is a program of torch.export. safetensors is a
            snapshot that dinogen opens, without what only training needs.
        precision: bits that weights are stored in. With fp16 the file is half as large, and drawing is still computed
            in 32 bits.
        start: what onnx and torch files draw from. z is noise, w a style for each block.
        licence: licence of the exported model, for its metadata.
    """

    format: Literal["onnx", "torch", "safetensors"] = "onnx"
    precision: Literal["fp32", "fp16"] = "fp32"
    start: Literal["z", "w"] = "z"
    licence: str = NOT_STATED


def export(generator: Generator, path: Path, options: ExportOptions, prompts: Sequence[str] = ()) -> int:
    """Write a generator for other programs, and compare what the file draws with what dinogen draws.

    Beside an ONNX file or a torch program NAME.npz gets its inputs for samples 0 to 7 of seed 0.

    Args:
        generator: on the CPU.
        path: the file, or for safetensors a folder that is not there yet.
        options: see there.
        prompts: of these samples in turn; none leaves open what they are like.

    Returns:
        Grey levels by which pixels differ at most.

    Raises:
        UsageError: packages are missing, or prompts for a model that takes none.
        DinogenError: the file draws something else. It is not kept.
    """
    if options.format == "safetensors":
        return write_snapshot(generator, path, options, about_model(generator, options.licence))
    if options.format == "onnx":
        need_packages("onnx")
    made = make_file(generator, path, options, prompts)
    write_bytes(path, made.payload)
    arrays = io.BytesIO()
    named: dict[str, Any] = {name: value.numpy() for name, value in made.inputs.items()}
    np.savez(arrays, **named)
    write_bytes(path.with_suffix(".npz"), arrays.getvalue())
    return made.off


def need_packages(format: str) -> None:
    """Refuse a format whose packages are missing.

    Raises:
        UsageError: names them.
    """
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UsageError(f"--format {format} needs {', '.join(missing)}; pip install 'dinogen[export]'")


@dataclass(frozen=True)
class Made:
    """A file that draws what dinogen draws.

    Args:
        payload: its bytes.
        inputs: those of samples 0 to 7 of seed 0.
        off: grey levels by which pixels differ at most, the rounding of weights included.
    """

    payload: bytes
    inputs: Inputs
    off: int


def make_file(generator: Generator, path: Path, options: ExportOptions, prompts: Sequence[str]) -> Made:
    """An ONNX model or a torch program, compared with what dinogen draws; see `export`.

    Args:
        generator, options, prompts: see there.
        path: where it will lie, for errors.

    Raises:
        UsageError: prompts for a model that takes none.
        DinogenError: the file draws something else.
    """
    about = about_model(generator, options.licence)
    network = rounded(generator.network) if options.precision == "fp16" else generator.network
    inputs = inputs_of(generator, options.start, prompts)
    expected, unrounded = drawn_by(network, inputs), drawn_by(generator.network, inputs)
    drawing = Drawing(network, options.start)
    halved = options.precision == "fp16"
    if options.format == "onnx":
        payload, run = onnx_file(trace(drawing, inputs), inputs, about, halved)
    else:
        payload, run = torch_file(trace(Halved(drawing) if halved else drawing, inputs), about)
    off = max(largest_gap(run(some), expected[: len(some[options.start])]) for some in (inputs, first_of(inputs)))
    if off > MOST_OFF:
        raise DinogenError(f"{path}: would draw pixels {off} grey levels off; report this, with the versions of torch")
    return Made(payload, inputs, largest_gap(run(inputs), unrounded))


class Drawing(nn.Module):
    """All that an exported file computes: from noise or styles to pixels.

    Args:
        network: in evaluation mode.
        start: `z` or `w`.
    """

    def __init__(self, network: GeneratorNetwork, start: str):
        super().__init__()
        self.network, self.start = network, start

    def forward(
        self,
        start: Tensor,
        truncation_psi: Tensor,
        text: Tensor | None = None,
        guidance: Tensor | None = None,
        tokens: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Draw.

        Args:
            start: `z` `[N, z_dim]`, or `w` `[N, blocks, w_dim]`.
            truncation_psi: `[]`, 1 keeps all variety.
            text: `[N, text_dim]`, see `Words.pooled`; zeros are no words.
            guidance: `[N]`, how far words are exaggerated, from 1 (not at all) up.
            tokens: `[N, T, token_dim]`.
            mask: bool `[N, T]`.

        Returns:
            uint8 `[N, R, R, 3]`.
        """
        network = self.network
        w = network.mapping(start) if self.start == "z" else start
        w = network.w_avg.lerp(w, truncation_psi)
        words = None
        if text is not None and network.caption is not None:
            # Without words nothing is exaggerated, see `Reader`.
            words = Words(
                text, tokens, mask, guidance if guidance is None else torch.where((text != 0).any(1), guidance, 1.0)
            )
            told = network.caption(words)
            w = w + (told if self.start == "z" else told[:, None])
        return to_uint8(network.draw(w, words=words)).permute(0, 2, 3, 1)


class Halved(nn.Module):
    """A module whose weights are stored in 16 bits, and that computes in 32.

    Args:
        module: stays as it is.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        self.hidden = [module]  # in a list: its own weights are not stored too
        self.names = list(module.state_dict())
        for number, value in enumerate(module.state_dict().values()):
            self.register_buffer(f"stored{number}", value.half())

    def forward(self, *inputs: Tensor) -> Tensor:
        stored = {name: self.get_buffer(f"stored{number}").float() for number, name in enumerate(self.names)}
        return torch.func.functional_call(self.hidden[0], stored, inputs)


def rounded(network: GeneratorNetwork) -> GeneratorNetwork:
    """The same generator with weights that 16 bits can hold."""
    other = copy.deepcopy(network)
    other.load_state_dict({name: value.half().float() for name, value in network.state_dict().items()})
    return other


@torch.no_grad()
def inputs_of(generator: Generator, start: str, prompts: Sequence[str]) -> Inputs:
    """The inputs of samples 0 to 7 of seed 0 by name, in the order of `Drawing.forward`."""
    network = generator.network
    w = network.mapping(latents(0, 0, COUNT, network.z_dim))
    z = latents(0, 0, COUNT, network.z_dim)
    inputs = {"z": z} if start == "z" else {"w": w[:, None].repeat(1, len(network.synthesis.blocks), 1)}
    inputs["truncation_psi"] = torch.tensor(1.0)
    if not network.takes_words and not prompts:
        return inputs
    words_of = generator.words_of(list(prompts) or [""])
    assert words_of is not None
    words = words_of(0, COUNT)
    inputs |= {"text": words.pooled, "guidance": torch.ones(COUNT)}
    if words.tokens is not None and words.mask is not None:
        inputs |= {"tokens": words.tokens, "mask": words.mask}
    return inputs


@torch.no_grad()
def drawn_by(network: GeneratorNetwork, inputs: Inputs) -> np.ndarray:
    """What dinogen draws of them, uint8 `[N, R, R, 3]`."""
    words = None
    if "text" in inputs:
        words = Words(inputs["text"], inputs.get("tokens"), inputs.get("mask"))
    w = network.style(latents(0, 0, COUNT, network.z_dim), float(inputs["truncation_psi"]), words)
    return draw(network, w, words).permute(0, 2, 3, 1).numpy()


def first_of(inputs: Inputs) -> Inputs:
    """The inputs of the first image alone."""
    return {name: value[:1] if value.ndim else value for name, value in inputs.items()}


def largest_gap(some: np.ndarray, others: np.ndarray) -> int:
    """Grey levels between images where they differ most."""
    return int(np.abs(some.astype(int) - others.astype(int)).max())


def trace(module: nn.Module, inputs: Inputs) -> ExportedProgram:
    """A module as a program for any number of images, and of tokens."""
    images, tokens = torch.export.Dim("images"), torch.export.Dim("tokens")
    dynamic = [
        ({0: images, 1: tokens} if name in ("tokens", "mask") else {0: images}) if value.ndim else {}
        for name, value in inputs.items()
    ]
    shapes = {"inputs": tuple(dynamic)} if isinstance(module, Halved) else tuple(dynamic)
    with torch.no_grad():
        program = torch.export.export(module.eval(), tuple(inputs.values()), dynamic_shapes=shapes, strict=False)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # names folders of this machine
    return program


def torch_file(program: ExportedProgram, about: Mapping[str, str]) -> tuple[bytes, Run]:
    """A program as a file, and what draws with it."""
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={ABOUT_FILE: json.dumps(about)})
    payload = file.getvalue()
    opened = torch.export.load(io.BytesIO(payload)).module()
    return payload, lambda some: opened(*some.values()).numpy()


def onnx_file(
    program: ExportedProgram, inputs: Inputs, about: Mapping[str, str], halved: bool, output: str = "images"
) -> tuple[bytes, Run]:
    """An ONNX model as a file, and what runs it; `halved` stores in 16 bits what they can hold."""
    import onnx
    import onnxruntime

    with warnings.catch_warnings(action="ignore"):
        made = torch.onnx.export(
            program, input_names=list(inputs), output_names=[output], opset_version=OPSET, dynamo=True, verbose=False
        )
    assert made is not None
    model = made.model_proto
    for value in [*model.graph.input, *model.graph.output]:
        for number, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_param:
                size.dim_param = "images" if number == 0 else "tokens"
    del model.graph.value_info[:]  # names the same sizes otherwise
    for node in [*model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]:
        del node.metadata_props[:]  # how the exporter came to it: most of a small file
    if halved:
        store_in_16_bits(model.graph)
    onnx.helper.set_model_props(model, dict(about))
    payload = model.SerializeToString()
    session = onnxruntime.InferenceSession(payload, providers=["CPUExecutionProvider"])

    def run(some: Mapping[str, Tensor]) -> np.ndarray:
        (made,) = session.run(None, {name: value.numpy() for name, value in some.items()})
        return np.asarray(made)

    return payload, run


def store_in_16_bits(graph: Any) -> None:
    """Store the weights of an ONNX graph in 16 bits, where none of them changes by that, and widen them at its start.

    The exporter would fold casts of the traced module into weights of 32 bits.
    """
    import onnx

    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            stored = values.astype(np.float16)
        if values.size > 1 and (stored == values).all():
            tensor.CopyFrom(onnx.numpy_helper.from_array(stored, f"{name}_16"))
            casts.append(onnx.helper.make_node("Cast", [f"{name}_16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def write_snapshot(generator: Generator, path: Path, options: ExportOptions, about: Mapping[str, str]) -> int:
    """Write a folder that dinogen opens, and compare what it draws."""
    network = generator.network
    names = [CONFIG_FILE, *((NOTES_FILE, WHITENING_FILE) if network.takes_words else ())]
    files = locate(generator.model, *names)
    expected = draw(network, network.style(latents(0, 0, COUNT, network.z_dim)))
    with atomic_folder(path) as temporary:
        card = [files[0].parent / name for name in (CARD_NAME, PICTURE_NAME)]
        for file in (*files, *filter(Path.is_file, card)):
            shutil.copyfile(file, temporary / file.name)
        if options.licence != NOT_STATED:
            with suppress(UsageError):  # it has no card, or one of another kind
                card = published_card(temporary, Publication(licence=options.licence))
                (temporary / CARD_NAME).write_text(card, encoding="utf-8")
        kept = {name: value.contiguous() for name, value in network.state_dict().items()}
        if options.precision == "fp16":
            kept = {name: value.half() for name, value in kept.items()}
        save_file(kept, temporary / WEIGHTS_FILE, metadata=dict(about))
        (temporary / WEIGHTS_FILE).chmod(0o644)
    opened = load_generator(path)
    images = draw(opened, opened.style(latents(0, 0, COUNT, network.z_dim)))
    return largest_gap(images.numpy(), expected.numpy())


def about_model(generator: Generator, licence: str) -> dict[str, str]:
    """What is known of a generator, for an exported file's metadata."""
    run = run_of(generator.model)
    about = {
        "made_by": f"dinogen {__version__}",
        "licence": licence,
        "generator": generator.network.fingerprint,
        "resolution": str(generator.resolution),
        "teacher": NOT_STATED,
        "figures": "{}",
        "images": "uint8, a row of pixels after the other, red green blue",
        "truncation_psi": "1 keeps all variety, 0 draws the average style",
    }
    if generator.takes_words:
        about |= {"text_encoder": public_name(generator.reader.name), "most_guidance": f"{generator.reader.guidance:g}"}
    if run is None:
        return about | handed_on(generator, licence)
    with suppress(DamagedFile, UsageError, KeyError, TypeError, ValueError, AttributeError):
        spec = read_specs(run / "teacher.json").finest
        about["teacher"] = f"{public_name(spec.teacher)} ({spec.teacher_sha256})"
    with suppress(DamagedFile, AttributeError):
        about["figures"] = numbers_of(read_json(run / "report.json"))
    return about


def handed_on(generator: Generator, licence: str) -> dict[str, str]:
    """What the weights of an exported snapshot say of it; nothing for one that was not exported."""
    (weights,) = locate(generator.model, WEIGHTS_FILE)
    about = metadata_of(weights)
    told = {name: about[name] for name in ("licence", "teacher") if name in about}
    with suppress(ValueError, KeyError, AttributeError):
        told["figures"] = numbers_of(json.loads(about["figures"]))
    return told if licence == NOT_STATED else told | {"licence": licence}


def numbers_of(report: Mapping[str, Any]) -> str:
    """The figures of a report, as JSON."""
    return json.dumps({name: value for name, value in report.items() if isinstance(value, int | float)})
