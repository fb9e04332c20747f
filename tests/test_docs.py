"""The guides are programs: their code blocks run, in order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))
# Tests of their commands are in tests/cli.
LONG = {"adapters", "instruction-sets", "planning", "pretrained", "your-own-log"}
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
    assert blocks, f"{guide} shows nothing to run"
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


def test_the_readme_lists_every_room_and_every_file_it_names_exists():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = [path.name for path in (ROOT / "irec_jax").iterdir() if (path / "__init__.py").exists()]
    for room in rooms:
        assert f"{room}/" in readme, f"the README does not say what {room}/ holds"
    for name in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / name).exists(), f"the README links {name}, which is not there"


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
