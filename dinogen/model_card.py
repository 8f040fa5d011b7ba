"""A model card: what a snapshot is, what it has learned from, how good it is, and what it is not for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from torch import Tensor

from dinogen import __version__
from dinogen.advice import public_name
from dinogen.config import RunConfig
from dinogen.data.manifest import Manifest
from dinogen.errors import UsageError
from dinogen.files import atomic_file, write_bytes
from dinogen.images import grid_columns, image_grid
from dinogen.markdown import cell, has_part, with_part
from dinogen.networks import Generator

CARD_NAME = "README.md"  # what hubs show of a model
PICTURE_NAME = "samples.jpg"
PICTURED = 16  # samples
NOBODY = "whoever gave you this model"  # in place of a contact
# What lies between is written anew by dinogen evaluate; the rest of a card may be edited.
BEGIN, END = "<!-- figures of dinogen evaluate: begin -->", "<!-- figures of dinogen evaluate: end -->"
NOT_JUDGED = "Not judged yet: `dinogen evaluate --model SNAPSHOT --data SHARDS` writes them here."


@dataclass(frozen=True)
class Training:
    """What is the same for all snapshots of a run.

    Args:
        teacher: who looked at the images, for people.
        samples: number of crops in the data.
        licences: number of crops of each; None if nobody counted them.
        consents: the same.
        objective: what the generator was trained by, for people.
        encoder: of its words; None without.
    """

    teacher: str
    samples: int
    licences: Mapping[str, int] | None
    consents: Mapping[str, int] | None
    objective: str
    encoder: str | None

    @classmethod
    def of(cls, config: RunConfig, manifest: Manifest) -> "Training":
        """That of a run. Folders of this machine are named by their last part only."""
        spec = manifest.specs.finest
        blocks = {"warmup": config.warmup, "frechet": config.frechet, "heads": config.heads, "slices": config.slices}
        parts = [config.objective.name, *(name for name, block in blocks.items() if block is not None)]
        return cls(
            f"{public_name(spec.teacher)} ({spec.teacher_sha256[:8]})",
            manifest.samples,
            manifest.terms("licences"),
            manifest.terms("consents"),
            " + ".join(parts),
            public_name(config.words.encoder) if config.words else None,
        )


@dataclass(frozen=True)
class Publication:
    """What whoever publishes a model adds.

    Args:
        repo: its hub id, or what stands for it.
        licence: of the model, by the hub's name.
        contact: whom to ask for the removal of a person.
    """

    repo: str = "FOLDER"
    licence: str | None = None
    contact: str | None = None


def write_model_card(
    folder: Path,
    network: Generator,
    training: Training,
    images_seen: int,
    samples: Tensor,
    publication: Publication = Publication(),
) -> None:
    """Write README.md and the picture that it shows into a snapshot.

    Args:
        folder: the snapshot's.
        network: its generator.
        training: where it comes from.
        images_seen: real images so far.
        samples: the first ones of seed 0, uint8 `[n, 3, R, R]`.
        publication: who publishes it.
    """
    side = samples.shape[-1]
    card = ModelCard.from_template(
        ModelCardData(
            license=publication.licence,
            library_name="dinogen",
            pipeline_tag="text-to-image" if network.takes_words else "unconditional-image-generation",
            tags=["dinogen", "faces", "one-step"],
        ),
        template_path=str(Path(__file__).parent / "templates" / "model_card.md"),
        title=f"faces at {side} pixels",
        side=side,
        words=network.takes_words,
        version=__version__,
        training=training,
        repo=publication.repo,
        parameters=f"{sum(each.numel() for each in network.parameters()):,}",
        images_seen=f"{images_seen:,}",
        fingerprint=network.fingerprint,
        contact=publication.contact or NOBODY,
        figures=NOT_JUDGED,
        begin=BEGIN,
        end=END,
        cell=cell,
    )
    with atomic_file(folder / PICTURE_NAME) as temporary:
        image_grid(samples, grid_columns(len(samples)), 1).save(temporary, format="JPEG", quality=90)
    write_bytes(folder / CARD_NAME, f"{str(card).rstrip()}\n".encode())


def published_card(folder: Path, publication: Publication) -> str:
    """A snapshot's card with what its publisher adds.

    Raises:
        UsageError: there is none that dinogen wrote.
    """
    path = folder / CARD_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = ""
    if BEGIN not in text:
        raise UsageError(f"{path}: not a model card of dinogen; train on for a moment, and the next snapshot has one")
    card = ModelCard(text, ignore_metadata_errors=True)
    card.text = card.text.replace(f'"{Publication.repo}"', f'"{publication.repo}"')
    if publication.licence:
        card.data["license"] = publication.licence
    if publication.contact:
        card.text = card.text.replace(f"Ask {NOBODY}", f"Ask {publication.contact}")
    return f"{str(card).rstrip()}\n"


def write_figures(folder: Path, rows: Iterable[tuple[str, str, str, str]], remark: str) -> bool:
    """Write a model's figures into its card; False where it has none, or one of another kind.

    Args:
        folder: the snapshot's.
        rows: of each figure its name, the model's value, that of other real images, and what it means.
        remark: how they were measured.
    """
    path = folder / CARD_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    if not has_part(text, BEGIN, END):
        return False
    table = ["| Figure | Samples | Real images | What it is |", "| --- | --- | --- | --- |"]
    table += [f"| {name} | {value} | {real} | {what} |" for name, value, real, what in rows]
    write_bytes(path, with_part(text, BEGIN, END, "\n".join(["", *table, "", remark, ""])).encode())
    return True
