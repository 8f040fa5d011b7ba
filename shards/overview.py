"""What is in these shards, at a glance: a summary in words and a picture of crops with their pyramids."""

from PIL import Image

from dinogen.data.folder import LocalFolder, RemoteFolder
from dinogen.data.manifest import Manifest
from dinogen.data.order import LoaderState, SampleOrder
from dinogen.data.store import SampleStore
from dinogen.images import to_float
from dinogen.pictures import GAP, pyramid_picture


def summary(manifest: Manifest) -> str:
    """Counts, teacher, tensors and sizes in a few lines."""
    size = sum(shard.bytes for shard in manifest.shards)
    splits = ", ".join(f"{count} {split}" for split, count in manifest.splits.items())
    maps = [f"{name} {'×'.join(map(str, shape))}" for name, shape in manifest.specs.finest.stored_shapes().items()]
    return "\n".join(
        [
            f"samples   {manifest.samples} ({splits}), crops of {manifest.crop_size}×{manifest.crop_size} pixels",
            f"captions  {captions_in_words(manifest)}",
            f"shards    {len(manifest.shards)}, {size / 1e6:.1f} MB, {size / manifest.samples / 1e3:.1f} kB a sample",
            f"teacher   {manifest.specs.finest.describe_teacher()}",
            *([f"clip      {manifest.embedder.describe()}"] if manifest.embedder else []),
            f"stages    {manifest.specs.describe_views()}",
            f"stored    of {max(manifest.specs)} px: {', '.join(maps)} (fp16)",
        ]
    )


def captions_in_words(manifest: Manifest) -> str:
    """How many samples have captions."""
    found = manifest.captioned()
    if found is None:
        return "not counted when these shards were packed; dinogen verify counts them"
    return f"{found} of {manifest.samples} samples have some" if found else "no sample has any"


def picture(
    folder: LocalFolder | RemoteFolder, manifest: Manifest, split: str, count: int = 8, seed: int = 0
) -> Image.Image:
    """For each stage a row for each of some random samples: the crop at the stage's resolution, then each stored map.

    Above each column stands its name. A map of embeddings is shown by its three strongest principal components over
    all samples of the stage, as red, green and blue; colour maps by their means.
    """
    store = SampleStore(folder, manifest, split)
    order = SampleOrder(store.counts, seed, window_shards=len(store.shards))
    places = next(order.batches(LoaderState(), min(count, len(store))))
    parts = []
    for resolution in manifest.specs:
        batch = store.read(places, resolution, stage=resolution)
        assert batch.images is not None and batch.pyramid is not None, "both were asked for"
        parts.append(pyramid_picture(to_float(batch.images), batch.pyramid, {f"{resolution} px": len(batch.images)}))
    size = max(part.width for part in parts), sum(part.height + GAP for part in parts) - GAP
    page = Image.new("RGB", size, "white")
    top = 0
    for part in parts:
        page.paste(part, (0, top))
        top += part.height + GAP
    return page
