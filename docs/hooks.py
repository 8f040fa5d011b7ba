"""Hooks of mkdocs: pages that lie in the project's folder, where people and tools look for them; what is made from
code; the notebook as a page."""

import json
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from reference_pages import fill

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "CITATION.cff": "CITATION.cff",
    "LICENSE": "LICENSE.txt",
}
NOTEBOOK, NOTEBOOK_PAGE = "dinogen.ipynb", "notebook.md"


def at_home(text: str, folder: str) -> str:
    """`text` with its links to the project's files as they are in the site; `folder` is where they are relative to."""

    def moved(match: re.Match[str]) -> str:
        target, anchor = match["target"], match["anchor"] or ""
        path = (ROOT / folder / target).resolve()
        if not path.is_relative_to(ROOT):
            return match[0]
        name = path.relative_to(ROOT).as_posix()
        return f"]({PAGES.get(name, name.removeprefix('docs/'))}{anchor})"

    return re.sub(r"\]\((?!\w+:|#)(?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)", moved, text)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        text = (ROOT / source).read_text()
        files.append(File.generated(config, page, content=at_home(text, ".") if page.endswith(".md") else text))
    notebook = json.loads((ROOT / "docs" / NOTEBOOK).read_text())
    files.append(File.generated(config, NOTEBOOK_PAGE, content=as_page(notebook)))
    return files


def as_page(notebook: dict) -> str:
    """A notebook as Markdown: its text and its code. It is kept without outputs."""
    parts = [f"[The notebook]({NOTEBOOK}) that this page shows runs in Jupyter."]
    for cell in notebook["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
    parts[:2] = parts[1::-1]  # the title first
    return "\n\n".join(parts)


def on_page_markdown(markdown: str, page, **_: object) -> str:
    """Pages directly in docs/ link to the project's folder as ../NAME, so that the links work there too."""
    markdown = fill(markdown)
    return at_home(markdown, "docs") if "/" not in page.file.src_uri and not page.file.generated_by else markdown
