"""Hooks of MkDocs: pages of the site from files outside docs/, and from the notebook.

Links are written as they work in the repository; the hooks turn them into links of the site.
"""

import json
import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OTHER_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "launch/README.md": "launch.md",
    "docs/notebook.ipynb": "notebook.md",
}
"""File of the repository -> page of the site, where the file is not a page of docs/."""

SAME_CONTENT = {"README.md": "index.md"}
"""File of the repository -> the page of the site that has its content."""

_ITEM = re.compile(r"([-*]|\d+\.) ")
_LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages whose files are not in docs/."""
    for source, page in OTHER_PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        markdown = notebook_to_markdown(text) if source.endswith(".ipynb") else text
        files.append(File.generated(config, page, content=markdown))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links of the repository into links of the site."""
    place = page.file.src_uri
    sources = {name: source for source, name in OTHER_PAGES.items()}
    source = sources.get(place, f"docs/{place}")
    text = separate_lists(markdown)
    return _LINK.sub(lambda match: site_link(match.group(), source, place), text)


def separate_lists(markdown: str) -> str:
    r"""Adds the blank line before a list that Python-Markdown needs and code hosts do not.

    >>> separate_lists("Options:\n- one\n- two")
    'Options:\n\n- one\n- two'
    """
    lines: list[str] = []
    in_code = False
    for line in markdown.split("\n"):
        before = lines[-1] if lines else ""
        in_code ^= line.lstrip().startswith("```")
        starts_list = _ITEM.match(line) and before and not _ITEM.match(before)
        if starts_list and not in_code and not before.startswith(" "):
            lines.append("")
        lines.append(line)
    return "\n".join(lines)


def site_link(link: str, source: str, place: str) -> str:
    """Gives the link on the page `place` for a link that the file `source` contains.

    >>> site_link("../docs/filters.md", "launch/README.md", "launch.md")
    'filters.md'
    >>> site_link("../launch/README.md", "docs/many-hosts.md", "many-hosts.md")
    'launch.md'
    """
    target = posixpath.normpath((PurePosixPath(source).parent / link).as_posix())
    name = {**OTHER_PAGES, **SAME_CONTENT}.get(target, target.removeprefix("docs/"))
    return posixpath.relpath(name, PurePosixPath(place).parent.as_posix())


def notebook_to_markdown(text: str) -> str:
    """Writes the cells of a notebook, and the outputs that are stored with them, as Markdown."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [_output_to_markdown(output) for output in cell["outputs"]]
    return "\n\n".join(part for part in parts if part) + "\n"


def _output_to_markdown(output: dict[str, Any]) -> str:
    if output["output_type"] == "stream":
        return "" if output["name"] == "stderr" else _as_text("".join(output["text"]))
    data = output.get("data", {})
    return _as_text("".join(data.get("text/plain", "")))


def _as_text(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
