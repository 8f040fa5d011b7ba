"""The bytes of a sample's files of numbers, and the tensors in them."""

import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dinogen.errors import DinogenError
from dinogen.pyramid import StagedSpec


class Layout:
    """Where each tensor lies in the bytes of a safetensors file: the same for all samples of a data set.

    Args:
        shapes: of the tensors, by name; all are fp16.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]):
        self.shapes = shapes
        empty = save({name: torch.zeros(shape, dtype=torch.float16) for name, shape in self.shapes.items()})
        # A safetensors file: 8 bytes with the header's length, the header (JSON), the data.
        header_end = 8 + int.from_bytes(empty[:8], "little")
        entries = json.loads(empty[8:header_end])
        self.header = empty[:header_end]
        self.size = len(empty)
        self._spans = {
            name: tuple(header_end + offset for offset in entries[name]["data_offsets"]) for name in self.shapes
        }

    def join(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The files' bytes from the tensors of a batch, the inverse of `split`.

        Args:
            tensors: fp16 `[N, *shape]`, on the CPU.

        Returns:
            uint8 `[N, size]`, a file in each row.
        """
        rows = torch.empty(len(next(iter(tensors.values()))), self.size, dtype=torch.uint8)
        rows[:, : len(self.header)] = torch.frombuffer(bytearray(self.header), dtype=torch.uint8)
        for name, (start, stop) in self._spans.items():
            rows[:, start:stop] = tensors[name].flatten(1).contiguous().view(torch.uint8)
        return rows

    def normalise(self, payload: bytes) -> bytes:
        """Check a file and return it in exactly this layout.

        Another version of safetensors may order the same tensors differently; everything else is refused.

        Raises:
            DinogenError: no safetensors, or not the tensors, shapes and type of the layout.
        """
        if len(payload) == self.size and payload.startswith(self.header):
            return payload
        try:
            tensors = load(payload)
        except (SafetensorError, ValueError, KeyError) as error:
            raise DinogenError(f"is not a safetensors file ({error})") from error
        if set(tensors) != set(self.shapes):
            raise DinogenError(f"holds {', '.join(sorted(tensors))} instead of {', '.join(sorted(self.shapes))}")
        for name, tensor in tensors.items():
            if tuple(tensor.shape) != self.shapes[name] or tensor.dtype != torch.float16:
                found = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
                raise DinogenError(f"'{name}' is {found} instead of float16 {list(self.shapes[name])}")
        return self.join({name: tensor[None] for name, tensor in tensors.items()}).numpy().tobytes()

    def split(self, rows: Tensor) -> dict[str, Tensor]:
        """Tensors of a batch from the files' bytes.

        Args:
            rows: uint8 `[N, size]`, a file of this layout in each row.

        Returns:
            fp16 tensors `[N, *shape]`.
        """
        return self._split(self._spans, rows, 0)

    def _split(self, spans: Mapping[str, tuple[int, int]], rows: Tensor, skipped: int) -> dict[str, Tensor]:
        """Tensors at these spans of files whose first `skipped` bytes are not in `rows`."""
        return {
            name: rows[:, start - skipped : stop - skipped]
            .contiguous()
            .view(torch.float16)
            .unflatten(1, self.shapes[name])
            for name, (start, stop) in spans.items()
        }


class PyramidLayout(Layout):
    """Where each tensor lies in the bytes of a KEY.pyramid.safetensors: the same for all samples of a spec."""

    def __init__(self, specs: StagedSpec):
        super().__init__(specs.stored_shapes())
        # Safetensors sorts by name, so that a stage's tensors lie side by side.
        self.stage_spans: dict[int, tuple[int, int]] = {}
        for resolution in specs:
            spans = [span for name, span in self._spans.items() if name.startswith(f"{resolution}/")]
            self.stage_spans[resolution] = (min(start for start, _ in spans), max(stop for _, stop in spans))
            assert sum(stop - start for start, stop in spans) == self.stage_size(resolution)

    def stage_size(self, resolution: int) -> int:
        """Bytes of a stage's tensors."""
        start, stop = self.stage_spans[resolution]
        return stop - start

    def split_stage(self, rows: Tensor, resolution: int) -> dict[str, Tensor]:
        """Tensors of one stage of a batch.

        Args:
            rows: uint8 `[N, stage_size]`, the bytes of the stage's span.
            resolution: of the stage.

        Returns:
            fp16 tensors `[N, *shape]`, by the names that they have in a pyramid.
        """
        prefix = f"{resolution}/"
        spans = {name: span for name, span in self._spans.items() if name.startswith(prefix)}
        tensors = self._split(spans, rows, self.stage_spans[resolution][0])
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


class EmbeddingLayout(Layout):
    """Where the numbers lie in the bytes of a KEY.clip.safetensors.

    Args:
        width: D, how many there are.
    """

    def __init__(self, width: int):
        super().__init__({"embedding": (width,)})
