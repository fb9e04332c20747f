"""From the settings to the teacher that they name."""

from pathlib import Path

from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.teacher import LogTeacher, Teacher
from irec_jax.log.split import Split
from irec_jax.settings import load_settings


def make_teacher(split: Split, config: InstructionsConfig, seed: int) -> Teacher:
    """Makes the teacher of a config.

    Args:
        split: What it reads.
        config: Who it is.
        seed: Of its draws.

    Raises:
        InputError: Notes are missing, damaged, or were written for another log.
    """
    if config.teacher == "metadata":
        from irec_jax.teachers.metadata import MetadataTeacher

        return MetadataTeacher.build(split, config.domain, seed)
    if config.teacher == "texts":
        from irec_jax.teachers.teacher_texts import StoredTextsTeacher

        return StoredTextsTeacher.load(Path(config.teacher_texts), split)
    if config.teacher == "log":
        return LogTeacher.of(split)
    return load_settings(config.teacher).build(split, seed)
