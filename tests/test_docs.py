"""The documentation: links lead somewhere, the site builds, what is drawn or listed in it is up to date."""

import configparser
import html
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from draw_concepts import PICTURE as FIGURE
from draw_concepts import draw as draw_drift
from draw_imports import PICTURE, draw, part_graph
from reference_pages import fill

from dinogen.config import RENAMED
from launch.cli import VERBS
from launch.flags import COMMON, PRESETS
from launch.wording import name_of

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(#[^)\s]*)?\)")


def anchors(page: Path) -> set[str]:
    """What links may name in a page: its headings, in lower case, without punctuation, with dashes for spaces."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), flags=re.M)
    return {"#" + re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading.lower())) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), f"{page.name} links to {target}, which is not there"
        assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}{anchor}: no such heading"


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="pip install 'dinogen[docs]'")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=300, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    home = (tmp_path / "index.html").read_text()
    assert 'href="results/"' in home and 'src="samples256.jpg"' in home  # the README's links, as they are in the site
    assert "PyramidSpec" in (tmp_path / "reference/pyramids/index.html").read_text()
    assert 'id="evaluate"' in (tmp_path / "reference/commands/index.html").read_text()
    assert "from_pretrained" in (tmp_path / "notebook/index.html").read_text()
    pages = {path: path.read_text() for path in tmp_path.rglob("*.html")}
    assert not [path for path, text in pages.items() if "made from the code: " in text]


def test_the_reference_has_every_flag_every_key_and_every_preset() -> None:
    made = {
        what: html.unescape(fill(f"<!-- made from the code: {what} -->")) for what in ("commands", "keys", "presets")
    }
    for verb in VERBS:
        section = re.findall(rf"^## {verb}\n(.*?)^## ", made["commands"], flags=re.M | re.S)[0]
        parser = importlib.import_module(f"launch.{verb}").build_parser()
        flags = [name_of(action) for key, action in parser.flags().items() if key not in COMMON]
        assert not [flag for flag in flags if verb != "train" and flag not in section]
        assert f"dinogen {verb}" in section
    keys = [key for key in importlib.import_module("launch.train").build_parser().flags() if "." in key]
    assert len(keys) > 40 and not [key for key in keys if f">{key}</code>" not in made["keys"]]
    assert not [path.stem for path in PRESETS.glob("*.yaml") if f"\n## {path.stem}\n" not in made["presets"]]


def test_defaults_and_help_of_the_reference_are_those_of_the_code() -> None:
    keys = html.unescape(fill("<!-- made from the code: keys -->"))
    assert re.search(r">saving.keep_checkpoints</code> \| a whole number \| .*>2</code> \| number of the newest", keys)
    assert re.search(r">heads.weight</code> \| a number \| .*>0.5</code> \|", keys)
    assert re.search(r">data</code> \| text \| needed \| folder of shards", keys)


def test_the_figure_of_the_drift_is_up_to_date() -> None:
    """Its numbers may differ by the rounding of a processor."""
    old, new = (re.split(r"(-?\d+)", text) for text in (FIGURE.read_text(), draw_drift()))
    assert len(old) == len(new), "run: python docs/draw_concepts.py"
    assert old[::2] == new[::2] and all(abs(int(a) - int(b)) <= 2 for a, b in zip(old[1::2], new[1::2]))


def test_the_picture_of_imports_is_up_to_date() -> None:
    assert PICTURE.read_text() == draw(part_graph()), "run: python docs/draw_imports.py"


def test_one_version_and_one_author_everywhere() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == setup["metadata"]["version"]
    assert citation["authors"] == [{"name": setup["metadata"]["author"]}]
    assert f"## {citation['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_readme_names_every_command() -> None:
    named = set(re.findall(r"^\| (.+?) \|", (ROOT / "README.md").read_text(), flags=re.M))
    assert not {verb for verb in VERBS if not any(verb in cell.replace("`", " ").split() for cell in named)}


def test_the_changelog_names_every_key_that_has_moved_or_gone() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    named = set(re.findall(r"`([\w.]+)`", text))
    assert not {key for key in RENAMED if key not in named and key.rpartition(".")[2] not in named}
