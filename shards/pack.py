"""Crops → shards: the teacher, and perhaps a CLIP, looks at every crop once. All goes into reproducible tars."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from dinogen.data.ahead import in_thread, read_ahead
from dinogen.data.image import decode_image
from dinogen.data.layout import PyramidLayout
from dinogen.data.manifest import Manifest, ShardRecord
from dinogen.data.schema import CROP_SIZE, EMBEDDING_SUFFIX, PYRAMID_SUFFIX
from dinogen.errors import DinogenError, UsageError
from dinogen.folder_lock import FolderLock
from dinogen.progress import progress_bar
from dinogen.pyramid import Pyramid, reduce_to, spaced
from dinogen.teachers import Teacher, all_stages, make_teacher
from shards.captions import Captions, read_captions
from shards.embed import CropEmbedder
from shards.options import PackOptions
from shards.plan import Crop, InputDigest, Item, ShardPlan, crop_size_of, names_of, plan_shards, read_crop
from shards.resume import Finished
from shards.tar import write_tar

READ_AHEAD = 1  # batches that wait to be looked at, beside those that the workers hold
LOOKED_AHEAD = 4  # batches that wait to be written

Seen = tuple[list[Crop], Pyramid, Tensor | None]  # a batch: its crops, what the teacher saw, and CLIP's embeddings


def pack_folder(
    crops: Path, output: Path, options: PackOptions = PackOptions(), rank: int = 0, world_size: int = 1
) -> Manifest | None:
    """Pack a folder of crops; running it again continues after the last whole shard.

    Several ranks, here or on machines that share the folders, each write shards of their own. They need not talk
    to each other: whoever finishes last writes the manifest.

    The shards' bytes depend on the crops, the captions, the spec, `clip`, `precision`, `compile` and `shard_size` only.
    (A teacher's last bits may depend on the size of a batch: they do not on a CPU; on a GPU keep `batch_size` for
    equal bytes.)

    Args:
        crops: folder of KEY.jpg or KEY.png with KEY.json, as made by `dinogen crop`.
        output: folder for shards and manifest; empty, or left by an earlier run on the same crops.
        options: the teacher, and how to pack. (A teacher sees no exact mirror image in a mirrored picture, so for
            `mirror` it looks again: flipping the stored maps would not do. So does a CLIP.)
        rank, world_size: number of this process, and how many there are.

    Returns:
        The manifest that was written, or None where other ranks have still to finish.

    Raises:
        UsageError: no folder of crops, or no such teacher, layers or levels.
        DinogenError: no such CLIP, a crop is damaged, or `output` holds something else or is written by another
            launch.
    """
    plans = plan_shards(crops, options.shard_size, options.mirror)
    captions = {} if options.captions is None else read_captions(options.captions, names_of(crops, plans))
    crop_size = crop_size_of(plans[0].items[0].image)
    teacher = make_teacher(
        options.teacher,
        stages_of(options, crop_size),
        options.input_size,
        options.layers,
        options.levels,
        options.fine_layers,
    )
    packer = Packer(teacher, captions, options, crop_size)
    with FolderLock(output, "is packing", rank, world_size):
        finished = Finished(output, packer.specs, packer.how, packer.crop_size, packer.about)
        finished.refuse_others(plans)
        packer.pack(plans[rank::world_size], finished)
        return finished.write_manifest(plans)


def stages_of(options: PackOptions, crop_size: int) -> list[int]:
    """The resolutions that a generator can be trained at on these shards.

    Raises:
        UsageError: one that crops cannot be reduced to.
    """
    stages = options.stages or all_stages(options.resolution)
    for resolution in stages:
        if resolution not in all_stages(crop_size):
            raise UsageError(
                f"--stages: {resolution} px is not one of {spaced(all_stages(crop_size))}, to which crops of "
                f"{crop_size} px can be reduced"
            )
    return stages


class Packer:
    """Writes the shards of a plan.

    Args:
        teacher: what looks at the crops; moved to a GPU where there is one.
        captions: by photo.
        options: batch size, workers, and how the teacher computes.
        crop_size: side of the crops in pixels.
    """

    def __init__(self, teacher: Teacher, captions: Captions, options: PackOptions, crop_size: int = CROP_SIZE):
        # With its number: the current GPU is a thread's own, and another thread looks.
        on_gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
        self.teacher = teacher.to(self.device)
        self.look = torch.compile(self.teacher, dynamic=False) if options.compile else self.teacher
        self.options = options
        # Other last bits: an earlier run's shards that were made otherwise are refused.
        self.how = options.precision * (options.precision != "fp32") + "compiled" * options.compile
        self.embedder = CropEmbedder(options.clip, self.device) if options.clip is not None else None
        self.about = self.embedder and self.embedder.about
        self.how += f"clip {self.about.fingerprint} {self.about.text_fingerprint}" if self.about else ""
        self.specs = teacher.specs
        self.layout = PyramidLayout(teacher.specs)
        self.captions = captions
        self.crop_size = crop_size

    def pack(self, plans: Sequence[ShardPlan], finished: Finished) -> None:
        """Write those shards of `plans` that are not among the finished ones."""
        missing = finished.missing(plans, self.captions)
        total = sum(len(plan.items) for plan in plans)
        with progress_bar(total, "pack", initial=total - sum(len(plan.items) for plan in missing)) as bar:
            # The teacher looks at the next batches while the last ones are written and hashed.
            with closing(in_thread(self._looked_at(missing), LOOKED_AHEAD)) as batches:
                for plan in missing:
                    cuts = -(-len(plan.items) // self.options.batch_size)
                    finished.add(self._write_shard(plan, finished.output, islice(batches, cuts), bar.update))

    def _write_shard(
        self,
        plan: ShardPlan,
        output: Path,
        batches: Iterable[Seen],
        count: Callable[[int], object],
    ) -> ShardRecord:
        digest = InputDigest(self.specs, self.how)

        def samples() -> Iterator[tuple[Crop, dict[str, bytes]]]:
            for crops, pyramids, embeddings in batches:
                files = {PYRAMID_SUFFIX: self.layout.join(pyramids).numpy()}
                if self.embedder and embeddings is not None:
                    files[EMBEDDING_SUFFIX] = self.embedder.layout.join({"embedding": embeddings}).numpy()
                for row, crop in enumerate(crops):
                    digest.add(crop)
                    yield crop, {suffix: rows[row].tobytes() for suffix, rows in files.items()}
                count(len(crops))

        size, sha256 = write_tar(output / plan.name, samples())
        return ShardRecord(
            plan.name, size, sha256, len(plan.items), plan.split, digest.hexdigest(), **digest.counted.to_dict()
        )

    def _looked_at(self, plans: Sequence[ShardPlan]) -> Iterator[Seen]:
        # A batch never reaches into the next shard: so it is the same one whatever was packed before.
        cuts = [
            plan.items[first : first + self.options.batch_size]
            for plan in plans
            for first in range(0, len(plan.items), self.options.batch_size)
        ]
        # Taking megabytes from another process, and making floats of them, is nothing that the teacher need wait for.
        with closing(in_thread(self._read(cuts), READ_AHEAD)) as batches:
            for crops, images in batches:
                yield crops, self._look(crops, images), self._embed(crops, images)

    def _read(self, cuts: Sequence[Sequence[Item]]) -> Iterator[tuple[list[Crop], Tensor]]:
        """Batches of crops, and their pixels in [-1, 1] on the device.

        They lie in memory that later batches use again, since new memory costs several times as much as the numbers
        in it: each is valid until `READ_AHEAD` + 1 further ones were asked for.
        """
        places = [torch.empty(0)] * (READ_AHEAD + 2)
        read = read_ahead(
            partial(read_batch, captions=self.captions, crop_size=self.crop_size), cuts, self.options.workers
        )
        for number, (crops, pixels) in enumerate(read):
            place = number % len(places)
            if places[place].shape != pixels.shape:
                places[place] = torch.empty(pixels.shape, device=self.device)
            yield crops, places[place].copy_(pixels).div_(127.5).sub_(1)

    def _look(self, crops: Sequence[Crop], images: Tensor) -> Pyramid:
        """The stored part of a batch's pyramids of all stages, fp16 on the CPU."""
        stored: Pyramid = {}
        try:
            with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, self.options.precision == "bf16"):
                for resolution in self.specs:
                    pyramid = self.look(reduce_to(images, resolution))
                    names = self.specs[resolution].stored_shapes()
                    stored |= {f"{resolution}/{name}": pyramid[name].half().cpu() for name in names}
        except Exception as error:
            if not self.options.compile:
                raise
            reason = " ".join(str(error).split())[:160]
            raise DinogenError(f"the teacher could not be compiled ({reason}); leave --compile out") from error
        for name, maps in stored.items():
            good = maps.flatten(1).isfinite().all(dim=1)
            if not good.all():
                key = crops[int(good.int().argmin())].key
                raise DinogenError(f"{key}: the teacher's '{name}' does not fit fp16; leave crop or layer out")
        return stored

    def _embed(self, crops: Sequence[Crop], images: Tensor) -> Tensor | None:
        """CLIP's embeddings of a batch, fp16 on the CPU."""
        if self.embedder is None:
            return None
        with torch.autocast(self.device.type, torch.bfloat16, self.options.precision == "bf16"):
            embeddings = self.embedder(images)
        if not (good := embeddings.isfinite().all(dim=1)).all():
            raise DinogenError(f"{crops[int(good.int().argmin())].key}: CLIP's embedding is not finite; leave it out")
        return embeddings


def read_batch(items: Sequence[Item], captions: Captions, crop_size: int = CROP_SIZE) -> tuple[list[Crop], Tensor]:
    """Crops and their pixels, mirrored where wanted, uint8 `[N, 3, crop_size, crop_size]`."""
    crops: list[Crop] = []
    rows: list[Tensor] = []
    for item in items:
        crop = read_crop(item, captions)
        if not crops or crop.image != crops[-1].image:  # its mirror image follows a crop: decode them once
            pixels = _decode(item, crop, crop_size)
        crops.append(crop)
        rows.append(pixels.flip(-1) if item.mirrored else pixels)
    return crops, torch.stack(rows)


def _decode(item: Item, crop: Crop, crop_size: int) -> Tensor:
    try:
        return decode_image(crop.image, crop_size=crop_size)
    except DinogenError as error:
        raise DinogenError(f"{item.image}: {error}; cut the crop again") from error
