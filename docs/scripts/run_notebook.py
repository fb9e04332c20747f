"""Runs docs/notebook.ipynb in an empty folder beside a copy of docs/shop.py.

Command: python docs/scripts/run_notebook.py          writes its outputs into the notebook
         python docs/scripts/run_notebook.py --check  only runs it, as CI does
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

DOCS = Path(__file__).parents[1]
NOTEBOOK = DOCS / "notebook.ipynb"
COLOR = re.compile(r"\x1b\[[0-9;]*m")
TIMEOUT = 600  # seconds for one cell


def main() -> None:
    """Runs the notebook; an error in a cell ends the program with exit code 1."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    os.environ["PYTHONPATH"] = str(DOCS.parent)
    os.environ["COLUMNS"] = "100"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(DOCS / "shop.py", folder)
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=TIMEOUT, resources=resources).execute()
    if "--check" in sys.argv[1:]:
        return
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [
                _as_text(output)
                for output in cell.outputs
                if output.output_type in ("execute_result", "stream")
            ]
    notebook.metadata = {"kernelspec": notebook.metadata["kernelspec"]}
    nbformat.write(notebook, NOTEBOOK)


def _as_text(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Keeps the text of a result, without colors; progress lines are not kept at all."""
    if output.output_type == "execute_result":
        output.data = {"text/plain": COLOR.sub("", output.data["text/plain"])}
    return output


if __name__ == "__main__":
    main()
