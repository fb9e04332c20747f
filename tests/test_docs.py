"""The guides are programs: their code blocks run, in order, in an empty folder."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest

from irec_jax import run_folder
from irec_jax.evaluation.figures import Report, TaskReport
from irec_jax.instructions.forms import Instruction
from irec_jax.log.checks import INTERACTION_COLUMNS, ITEM_COLUMNS
from irec_jax.log.events import LogManifest

ROOT = Path(__file__).parents[1]
SCRIPTS, IMAGES = ROOT / "docs" / "scripts", ROOT / "docs" / "images"
GUIDES = sorted((ROOT / "docs").glob("*.md"))
TEN_LINES = ROOT / "docs" / "shop.py"
# Tests of their commands are in tests/cli.
# Nothing on these pages can run; each has its reason.
WITHOUT_BLOCKS = {
    "choosing": "its commands need hours of comparisons",
    "cli": "written by docs/scripts/commands_page.py from the help of the commands",
    "evaluation": "its commands need a run; the quickstart page and tests/cli evaluate runs",
    "how-it-works": "text beside a picture",
    "index": "links",
    "limits": "its command needs the quickstart's run; bench/plain_requests.py has the figures",
    "speed": "tables; bench/train.py has the figures",
}
LONG = {
    *("adapters", "extending", "instruction-sets", "many-hosts", "planning", "pretrained"),
    *("quickstart", "requests", "scaling-up", "your-own-log"),
}
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "guide",
    [
        pytest.param(guide, id=guide.stem, marks=pytest.mark.slow if guide.stem in LONG else ())
        for guide in GUIDES
    ],
)
def test_a_guide_runs(guide: Path, tmp_path: Path, cached: dict[str, str]):
    blocks = BLOCK.findall(guide.read_text(encoding="utf-8"))
    assert bool(blocks) != (guide.stem in WITHOUT_BLOCKS), f"{guide} shows nothing to run"
    if guide.stem == "quickstart":
        shutil.copy(TEN_LINES, tmp_path)
    irec = tmp_path / "bin" / "irec"
    irec.parent.mkdir()
    irec.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m irec_jax.cli.main "$@"\n')
    irec.chmod(0o755)
    environment = {
        **os.environ,
        **cached,
        "PATH": f"{irec.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    for kind, text in blocks:
        command = [sys.executable, "-c", text] if kind == "python" else ["bash", "-euc", text]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


def test_the_config_of_ten_lines_is_printed_as_it_is_run():
    text = TEN_LINES.read_text(encoding="utf-8")
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    assert f'```python title="shop.py"\n{text}```' in page
    assert len([line for line in text.splitlines() if line]) <= 10


def test_the_notebook_has_five_lines():
    notebook = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert len("\n".join(code).splitlines()) == 5


def test_the_readme_is_short_and_keeps_its_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) < 150
    assert "\n    pip install -e . && irec quickstart\n" in readme
    assert "\n    pip install -e '.[test]' && pytest\n" in readme


def test_the_contributing_page_lists_every_package():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    packages = [path.parent.name for path in (ROOT / "irec_jax").glob("*/__init__.py")]
    for package in packages:
        assert f"  {package}/ " in page, f"CONTRIBUTING.md does not say what {package}/ holds"


def test_the_page_of_commands_is_current():
    page = run_path(str(SCRIPTS / "commands_page.py"))["page"]()
    hint = "run `python docs/scripts/commands_page.py`"
    assert page == (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), hint


def test_the_picture_is_drawn_from_its_record():
    record = json.loads((IMAGES / "how-it-works.json").read_text(encoding="utf-8"))
    drawn = run_path(str(SCRIPTS / "draw_picture.py"))["draw"](record)
    hint = "run `python docs/scripts/draw_picture.py`"
    assert drawn == (IMAGES / "how-it-works.svg").read_text(encoding="utf-8"), hint


def test_the_screenshot_is_of_the_page_as_it_looks_now():
    sources = run_path(str(SCRIPTS / "screenshot.py"))["sources_sha256"]()
    hint = "run `python docs/scripts/screenshot.py runs/quickstart`"
    assert sources == (IMAGES / "report.sha256").read_text(encoding="utf-8").strip(), hint


def test_pictures_are_small():
    assert sum(path.stat().st_size for path in IMAGES.iterdir()) < 250_000


def test_the_page_of_file_formats_names_every_column_feature_and_file():
    page = (ROOT / "docs" / "file-formats.md").read_text(encoding="utf-8")
    names = {*ITEM_COLUMNS.columns, *INTERACTION_COLUMNS.columns}
    names |= {field.name for field in dataclasses.fields(LogManifest)}
    names |= {*Instruction._fields, "number"}
    names |= {field.name for field in dataclasses.fields(TaskReport)}
    names |= {field.name for field in dataclasses.fields(Report)} - {"ranks"}
    names |= {
        value + ("/" if name.endswith("FOLDER") else "")
        for name, value in vars(run_folder).items()
        if name.endswith(("_FILE", "_FOLDER", "_PAGE"))
    }
    assert not [name for name in sorted(names) if f"`{name}`" not in page]


def test_each_test_that_the_security_page_names_exists():
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 20
    for file, test in named:
        source = (ROOT / file).read_text(encoding="utf-8")
        assert f"\ndef {test}(" in source, f"{file} has no {test}"
    rows = re.findall(r"^\|(?! ---).*\|$", page.split("## Untrusted inputs")[1], re.MULTILINE)
    for row in rows[1:]:
        assert "::" in row, f"no test beside: {row}"
