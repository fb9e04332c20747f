"""Construction of the teacher that the settings name."""

from pathlib import Path

from irec_jax.instructions.config import InstructionsConfig
from irec_jax.instructions.teacher import LogTeacher, Teacher
from irec_jax.log.split import Split
from irec_jax.settings import load_settings


def make_teacher(split: Split, config: InstructionsConfig, seed: int) -> Teacher:
    """Makes the teacher of a config.

    Args:
        split: The split that it writes texts for.
        config: Names the teacher.
        seed: Seed of its random choices.

    Raises:
        InputError: Teacher texts are missing, damaged, or for another log.
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
