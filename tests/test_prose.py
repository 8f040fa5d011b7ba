"""Plain English in what people read: README, CONTRIBUTING, CHANGELOG, docs/ and every --help."""

import importlib
import re
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from launch.cli import VERBS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
LONGEST = 25  # words in a sentence
SUFFIXES = {".html", ".md", ".py", ".sbatch", ".sh", ".yaml"}
INSTEAD = {
    r"\b(go|goes|going|went|gone) on\b": "resume or continue",
    r"\bno part in\b": "not used in",
    r"\bso (many|long)\b(?! as)": "the number or the length",
    r"(?<!there )\bis no\b(?! longer| more| \w+er\b)": "is not a",
    r"\bbe had\b": "be obtained",
    r"\btill\b": "until",
    r"\bwall clock\b": "wall time",
}


def paragraphs(page: str) -> list[str]:
    """The prose of a Markdown page: paragraphs, headings, list items and cells of tables, without code blocks."""
    page = re.sub(r"^ *```.*?^ *```", "", page, flags=re.M | re.S)
    page = re.sub(r"<!--.*?-->", "", page, flags=re.S)
    found = [""]
    for line in page.splitlines():
        text = line.strip()
        if text.startswith("|"):
            found += [*text.strip("|").split("|"), ""]
        elif re.match(r"([-*] |\d+\. |#|>|:::)", text) or not text:
            found.append("" if text.startswith(":::") else re.sub(r"^([-*>]|\d+\.|#+) *", "", text))
        else:
            found[-1] += " " + text
    return [text.strip() for text in found if text.strip()]


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph. A link counts as its text, a span of code as one word."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]+`", "CODE", text)
    text = re.sub(r"\b(e\.g|i\.e|vs|etc)\.", r"\1", text)
    return [part.strip() for part in re.split(r"(?<=[.!?…])[\")*_]*\s+", text) if part.strip()]


def faults(text: str) -> list[str]:
    """What is wrong with a paragraph, a line for each fault."""
    found = [f"{len(one.split())} words: {one}" for one in sentences(text) if len(one.split()) > LONGEST]
    for pattern, better in INSTEAD.items():
        found += [f"'{match[0]}' (say: {better}): {text}" for match in re.finditer(pattern, text, flags=re.I)]
    return found


def helps_of(parser: ArgumentParser) -> list[str]:
    """Description, examples and every flag's help."""
    texts = [parser.description, parser.epilog, *(action.help for action in parser._actions)]
    return [" ".join(str(text).split()) for text in texts if text]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Runs resume. " * 20, 0),
        ("word " * 26 + ".", 1),
        ("Training goes on. It is no problem.", 2),
        ("There is no such file, and it is no longer than that.", 0),
    ],
)
def test_faults_are_found(text: str, number: int) -> None:
    assert len(faults(text)) == number


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_are_plain_english(page: Path) -> None:
    found = [fault for text in paragraphs(page.read_text()) for fault in faults(text)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("verb", VERBS)
def test_help_is_plain_english(verb: str) -> None:
    parser = importlib.import_module(f"launch.{verb}").build_parser()
    found = [fault for text in helps_of(parser) for fault in faults(text)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("folder", ["configs", "dinogen", "docker", "launch", "shards", "tests/helpers"])
def test_code_comments_and_messages_avoid_the_same_words(folder: str) -> None:
    files = [
        path for path in sorted((ROOT / folder).rglob("*")) if path.suffix in SUFFIXES or path.name == "Dockerfile"
    ]
    lines = [(path, line) for path in files for line in path.read_text().splitlines()]
    found = [f"{path.name}: {line.strip()}" for path, line in lines for word in INSTEAD if re.search(word, line, re.I)]
    assert not found, "\n" + "\n".join(found)
