"""Layout of an instruction as a stored record."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from irec_jax.instructions.forms import Instruction
from irec_jax.storage.tf_example import (
    encode_example,
    encode_int,
    encode_ints,
    encode_label,
    encode_text,
)


def encode_record(instruction: Instruction, number: int) -> bytes:
    """Encodes an instruction and its record number as `tf.train.Example`."""
    record = instruction
    return encode_example(
        (
            encode_ints(b"candidates", record.candidates),
            encode_text(b"inputs", record.inputs),
            encode_label(b"language", record.language),
            encode_int(b"number", number),
            _origin(record.scenario, record.seed, record.split, record.strategy),
            encode_int(b"target_item", record.target_item),
            encode_text(b"targets", record.targets),
            encode_label(b"task", record.task),
            encode_label(b"template", record.template),
            encode_int(b"user", record.user),
        )
    )


def decode_record(features: Mapping[str, Any]) -> Instruction:
    """Builds an instruction from the features of a record as TFDS reads them."""
    return Instruction(**{name: _python_value(features[name]) for name in Instruction._fields})


def _python_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, list):
        return tuple(int(number) for number in value)
    return np.asarray(value).tolist()


# These four are neighbors in the alphabet and have few values: one cached piece for all.
@functools.lru_cache(maxsize=4_096)
def _origin(scenario: str, seed: int, split: str, strategy: str) -> bytes:
    return b"".join(
        (
            encode_label(b"scenario", scenario),
            encode_int(b"seed", seed),
            encode_label(b"split", split),
            encode_label(b"strategy", strategy),
        )
    )
