"""The site of docs/ (`pip install -e '.[docs]'`): a strict build, and the notebook as printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="needs pip install -e '.[docs]'")
pytest.importorskip("nbclient", reason="needs pip install -e '.[docs]'")
pytestmark = pytest.mark.docs

ROOT = Path(__file__).parents[1]
# Links that a browser follows by itself; a link to click is another thing.
LOADED = re.compile(
    r"<(?:script|img|iframe)[^>]* src=\"(https?:[^\"]*)|<link[^>]*href=\"(https?:[^\"]*)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    variables = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


def test_every_page_of_the_repository_is_a_page_of_the_site(site: Path):
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    for page in (*pages, Path("launch.md"), Path("notebook.md"), Path("contributing.md")):
        name = page.with_suffix("") if page.stem not in ("index", "README") else page.parent
        assert (site / name / "index.html").is_file(), page


def test_the_site_loads_nothing_from_other_hosts(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 100
    for page in pages:
        assert not LOADED.findall(page.read_text(encoding="utf-8")), page


def test_a_link_of_the_repository_is_a_link_of_the_site(site: Path):
    page = (site / "launch" / "index.html").read_text(encoding="utf-8")
    assert 'href="../many-hosts/"' in page
    page = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="notebook/"' in page
    assert 'href="launch/"' in page


def test_a_list_after_a_line_of_text_is_a_list(site: Path):
    page = (site / "decisions" / "0001-package-layers" / "index.html").read_text(encoding="utf-8")
    assert "<li>" in page.partition("Options.")[2].partition("Choice.")[0]


def test_the_reference_of_python_comes_from_docstrings(site: Path):
    page = (site / "python-api" / "index.html").read_text(encoding="utf-8")
    for name in ("tune", "evaluate", "compare", "Recommender.recommend", "Experiment"):
        assert f'id="irec_jax.{name}"' in page


def test_the_notebook_runs_as_printed():
    command = [sys.executable, str(ROOT / "docs" / "scripts" / "run_notebook.py"), "--check"]
    # Compiled as for a user: it takes steps for most of its time.
    variables = {**os.environ, "XLA_FLAGS": ""}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
