"""The files of template packs, and their copies in a run."""

import dataclasses
import importlib.resources
from pathlib import Path

from irec_jax.errors import InputError
from irec_jax.files import write_text
from irec_jax.instructions.config import BUILT_IN_PACKS, PACK_SUFFIX, InstructionsConfig


def pack_path(name: str) -> Path | None:
    """Returns the file of a user's own pack, None for a pack of the package."""
    return None if name in BUILT_IN_PACKS else Path(name)


def pack_label(name: str) -> str:
    """Returns the name of a pack's file for messages."""
    return f"packs/{name}.toml" if pack_path(name) is None else name


def pack_text(name: str) -> str:
    """Returns the TOML text of a pack.

    Raises:
        InputError: There is no such file, or it is not UTF-8.
    """
    path = pack_path(name)
    if path is None:
        source = importlib.resources.files("irec_jax.instructions") / "packs" / f"{name}.toml"
        return source.read_text(encoding="utf-8")
    if not path.is_file():
        raise InputError(
            "there is no such template pack",
            where=f"instructions.packs: {path}",
            hint=f"Give the path of a TOML file, or one of: {', '.join(BUILT_IN_PACKS)}.",
        )
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"not UTF-8 ({error.reason} at byte {error.start})",
            where=str(path),
            hint="Save it as UTF-8.",
        ) from error


def copy_packs(config: InstructionsConfig, folder: Path) -> None:
    """Copies the packs into a folder, so that a run keeps its templates; older copies stay."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(config.packs):
        copy = folder / f"{number}{PACK_SUFFIX}"
        if not copy.exists():
            write_text(copy, pack_text(name))


def with_copied_packs(config: InstructionsConfig, folder: Path) -> InstructionsConfig:
    """Returns the settings with the packs that `copy_packs` wrote."""
    copies = [folder / f"{number}{PACK_SUFFIX}" for number in range(len(config.packs))]
    names = zip(config.packs, copies, strict=True)
    packs = tuple(str(copy) if copy.is_file() else name for name, copy in names)
    return dataclasses.replace(config, packs=packs)
