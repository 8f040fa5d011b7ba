"""Every kind of text on several ranks, with the teacher whole on each or split over them."""

from pathlib import Path

import pytest
import torch

from dinogen.opening import load_generator
from dinogen.reader import load_reader
from helpers.crop_folder import make_crops
from helpers.ranks import start_ranks
from helpers.text_models import save_clip, save_siglip
from helpers.training import flags
from shards.options import PackOptions
from shards.pack import pack_folder

SHORT = ["--schedule.start_resolution=16", "--generator.img_resolution=16", "--words.drop=0.25"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `clip` and `siglip`."""
    folder = tmp_path_factory.mktemp("models")
    for name, save in (("clip", save_clip), ("siglip", save_siglip)):
        (folder / name).mkdir()
        save(folder / name)
    return folder


@pytest.fixture(scope="module")
def data(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 crops with captions, and with CLIP's embeddings."""
    folder = tmp_path_factory.mktemp("data")
    make_crops(folder / "crops", 24, captioned=True)
    pack_folder(folder / "crops", folder / "shards", PackOptions(stages=[16], clip=str(models / "clip")))
    return folder / "shards"


@pytest.mark.parametrize(
    ("encoder", "source", "placement"),
    [
        ("clip", "images", "fsdp"),
        ("clip", "captions", "none"),
        ("siglip", "captions", "fsdp"),
        ("siglip", "captions", "none"),
    ],
)
@pytest.mark.slow  # the quick tests have ranks with words in test_oracle.py
def test_two_ranks_that_resume_do_what_one_does(data, models, tmp_path, encoder, source, placement):
    words = [f"--words.encoder={models / encoder}", f"--words.source={source}", f"--teacher.shard={placement}"]

    def norms(ranks: int, run: str, ends: list[float]) -> list[float]:
        found = []
        for end in ends:
            arguments = flags(data, tmp_path / run, *SHORT, *words, f"--schedule.total_kimg={end}")
            started = start_ranks(ranks, tmp_path / f"{run}-{end}", arguments)
            said = started.ends()
            assert [code for code, _ in said] == [0] * ranks, said
            found += [step["scalars"]["gradient_norm"] for step in started.steps()]
        return found

    alone, together = norms(1, "alone", [0.064]), norms(2, "together", [0.032, 0.064])
    assert len(alone) == 4 and together == pytest.approx(alone, rel=1e-3)
    generator, reader = load_generator(tmp_path / "together"), load_reader(tmp_path / "together")
    z = torch.randn(2, 16)
    some, others = (generator(z, words=reader([prompt] * 2)) for prompt in ("a hat", "a beard"))
    assert not torch.equal(some, others), "prompts steer"
