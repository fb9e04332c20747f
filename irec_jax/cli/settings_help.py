"""`irec settings`: every setting of an experiment, to read, to search and as a page of the docs."""

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.padding import Padding
from rich.text import Text

from irec_jax.errors import InputError, nearest
from irec_jax.experiment.loading import load_experiment
from irec_jax.experiment.setting_list import SettingGroup, find_settings, list_settings
from irec_jax.terminal import Console

_SENTENCE_END = re.compile(r"(?<=\.) (?=[A-Z])")

MARKDOWN_START = """# Settings

Every setting of an experiment. A config file sets them in Python, a command behind the file:

```bash
irec settings learning
irec settings train.batch_size
```

A setting is written with underscores, as in Python (`--train.batch_size 64`), and a flag of a
command with dashes, as its `--help` shows it (`--dry-run`); both are read with either. A setting
that is true or false is a switch: `--model.tied_head`, `--model.no_tied_head`, `--model.tied_head
true` and `--model.tied_head=false` all work, as they do for the switches of commands. A setting
that takes a list is given as words: `--instructions.tasks sequential_recommendation
product_search`. Those marked with "config file" take objects of Python and have no flag. This page
is written by `irec settings --markdown`; a test compares it with the code.
"""


@dataclasses.dataclass(frozen=True)
class Settings:
    """Lists the settings of an experiment, or those that a word occurs in.

    Example: irec settings batch

    Attributes:
        word: A part of a name or of an explanation; without it, all settings.
        experiment: A config file whose values are shown in place of the defaults.
        markdown: Write the page docs/settings.md to standard output.
    """

    word: tyro.conf.Positional[str] = ""
    experiment: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    markdown: bool = False

    def run(self) -> None:
        """Prints the settings.

        Raises:
            InputError: The word occurs nowhere.
        """
        groups = list_settings(load_experiment(self.experiment) if self.experiment else None)
        found = find_settings(self.word, groups)
        if not found:
            keys = [setting.key for group in groups for setting in group.settings]
            raise InputError(
                f"no setting has '{self.word}' in its name or explanation",
                where="WORD",
                hint=nearest(self.word, keys).partition("Allowed:")[0]
                + "`irec settings` lists all of them.",
            )
        if self.markdown:
            sys.stdout.write(to_markdown(found))
        else:
            print_settings(found)


def print_settings(groups: tuple[SettingGroup, ...], *, whole_texts: bool = True) -> None:
    """Prints each section: flag, value and type of a setting in one line, and what it does.

    Args:
        groups: The settings.
        whole_texts: Whether explanations are printed whole, or only their first sentence.
    """
    console = Console(highlight=False)
    for group in groups:
        console.print(f"\n{group.name}: {group.text}", style="bold", markup=False)
        for setting in group.settings:
            name = f"{setting.key} (config file)" if setting.in_file_only else setting.flag
            line = f"{name} {shown_value(setting.default)}  [{setting.kind}]"
            text = setting.text if whole_texts else _SENTENCE_END.split(setting.text)[0]
            console.print(Padding(Text(line, "cyan"), (0, 0, 0, 2)))
            console.print(Padding(Text(text), (0, 0, 0, 6)))


def to_markdown(groups: tuple[SettingGroup, ...]) -> str:
    """Writes the page of the docs."""
    parts = [MARKDOWN_START]
    for group in groups:
        parts += [f"## {group.name}\n", group.text, "", "| setting | type | default | meaning |"]
        parts.append("| --- | --- | --- | --- |")
        for setting in group.settings:
            name = f"`{setting.key}`" + (" (config file)" if setting.in_file_only else "")
            cells = (name, setting.kind, f"`{shown_value(setting.default)}`", setting.text)
            parts.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def shown_value(value: Any) -> str:
    """Writes a value as a user gives it; a long list by its first entries."""
    if isinstance(value, list):
        words = [str(each) for each in value[:2]] + ["..."] * (len(value) > 2)
        return " ".join(words) or "none"
    return '""' if value == "" else value if isinstance(value, str) else json.dumps(value)
