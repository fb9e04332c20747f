"""Writes docs/cli.md from the help of the commands: `python docs/scripts/commands_page.py`."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from irec_jax.cli.main import COMMANDS, main
from irec_jax.launching.targets import TARGETS

PAGE = Path(__file__).parents[1] / "cli.md"
START = """# Commands

`irec COMMAND --help` prints the same as this page, which is written by
`python docs/scripts/commands_page.py`; a test compares it with the code. Commands that take an
experiment also take every [setting](settings.md) behind it: `--train.steps 2000`.

Exit codes: 0 done; 1 a check failed, such as a plan that does not fit; 2 the input, the settings
or the command line are wrong, or the disk is full; 75 another process of the run was lost, and the
run may be started again; 130 interrupted by Ctrl-C, with everything saved; 143 ended by SIGTERM,
with everything saved.

"""
WIDTH = "92"
_SETTINGS = re.compile(r"\n+general: .*", re.DOTALL)  # docs/settings.md has them


def page() -> str:
    """Returns the text of the page."""
    names = sorted(COMMANDS)
    table = "".join(f"| [`irec {n}`](#irec-{_slug(n)}) | {COMMANDS[n].summary} |\n" for n in names)
    sections = [f"## irec {name}\n\n```text\n{help_of(name.split())}\n```\n" for name in names]
    targets = [
        f"## Target {target}\n\n```text\n{help_of(['launch', 'EXPERIMENT', '--on', target])}\n```\n"
        for target in TARGETS
    ]
    parts = [f"{START}| command | purpose |\n| --- | --- |\n{table}", *sections, *targets]
    return "\n".join(parts)


def help_of(command: Sequence[str]) -> str:
    """Returns the help of a command without the settings of experiments."""
    printed = io.StringIO()
    with _width(), contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command, "--help"])
    text = _SETTINGS.sub("", printed.getvalue())
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" +$", "", text, flags=re.MULTILINE)).strip()


@contextlib.contextmanager
def _width() -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = WIDTH
    yield
    if before is None:
        del os.environ["COLUMNS"]
    else:
        os.environ["COLUMNS"] = before


def _slug(name: str) -> str:
    return name.replace(" ", "-")


if __name__ == "__main__":
    sys.stdout.write(f"{PAGE.write_text(page(), encoding='utf-8'):,} characters in {PAGE}\n")
