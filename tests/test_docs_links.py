"""Links of all Markdown files: their files and anchors exist, and no page of the site is hidden."""

import posixpath
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    if (ROOT / name).exists()
)
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
ANCHOR = re.compile(r'id="([^"]+)"')
# Files of the repository that are pages of the site: docs/scripts/site_hooks.py.
SITE = {"CHANGELOG.md", "CONTRIBUTING.md", "launch/README.md", "docs/notebook.ipynb"}


def links(path: Path) -> list[str]:
    """The links of a page that do not lead to other hosts."""
    text = CODE.sub("", FENCE.sub("", path.read_text(encoding="utf-8")))
    return [link for link in LINK.findall(text) if not re.match(r"[a-z]+:", link)]


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, by the rule of code hosts and of mkdocs.yml."""
    found: dict[str, int] = {}
    slugs = set(ANCHOR.findall(text))
    for title in HEADING.findall(FENCE.sub("", text)):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        number = found.get(slug, 0)
        found[slug] = number + 1
        slugs.add(f"{slug}-{number}" if number else slug)
    return slugs


def target_of(path: Path, link: str) -> str:
    """The file of a link, from the root of the repository."""
    name = link.partition("#")[0]
    here = path.relative_to(ROOT).as_posix()
    return posixpath.normpath(posixpath.join(posixpath.dirname(here), name)) if name else here


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_an_anchor(path: Path):
    for link in links(path):
        target = ROOT / target_of(path, link)
        assert target.exists(), f"{path}: {link} is not there"
        anchor = link.partition("#")[2]
        if anchor and target.suffix == ".md":
            found = anchors(target.read_text(encoding="utf-8"))
            assert anchor in found, f"{path}: {link}; anchors: {sorted(found)}"


def test_every_page_of_the_site_is_two_clicks_from_the_index():
    """Counts links in the text only, not those of the navigation."""
    site = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")} | SITE
    reached = clicked = {"docs/index.md"}
    for _ in range(2):
        pages = [ROOT / name for name in clicked if name.endswith(".md")]
        clicked = {target_of(page, link) for page in pages for link in links(page)} & site
        reached = reached | clicked
    assert not site - reached


def test_the_navigation_lists_every_page_that_is_not_a_decision():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    for page in (ROOT / "docs").glob("*.md"):
        assert f": {page.name}\n" in navigation, f"mkdocs.yml does not list {page.name}"


@pytest.mark.parametrize(
    ("text", "anchor"),
    [
        ("# Two words", "two-words"),
        ("## `code` and - a dash", "code-and---a-dash"),
        ("# A\n# A", "a-1"),
        ("# [Link](page.md), and more", "link-and-more"),
    ],
)
def test_anchors_follow_the_rule_of_code_hosts(text: str, anchor: str):
    assert anchor in anchors(text)
