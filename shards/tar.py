"""Writing one shard, the same bytes for the same samples."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from webdataset.writer import TarWriter

from dinogen.data.check import file_sha256
from dinogen.data.schema import RECORD_SUFFIX
from dinogen.files import atomic_file
from shards.plan import Crop


def write_tar(path: Path, samples: Iterable[tuple[Crop, Mapping[str, bytes]]]) -> tuple[int, str]:
    """Write a shard, whole or not at all.

    Args:
        path: the shard's file.
        samples: crops with the bytes of their files of numbers, by suffix, in the order that they shall have.

    Returns:
        Size in bytes and sha256 of the file.
    """
    with atomic_file(path) as temporary:
        with open(temporary, "wb") as file, TarWriter(file, user="", group="", mtime=0, encoder=False) as tar:
            for crop, numbers in samples:
                tar.write({"__key__": crop.key, crop.suffix: crop.image, RECORD_SUFFIX: crop.record, **numbers})
        return temporary.stat().st_size, file_sha256(temporary)
