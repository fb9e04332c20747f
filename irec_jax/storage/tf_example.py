"""How a record is stored: as the `tf.train.Example` that TFDS would write, and its checksum."""

import functools
import hashlib
from typing import Any

import numpy as np

from irec_jax.instructions.forms import Instruction

FIELDS = Instruction._fields
"""The fields of a stored record, its number apart."""

HASH_MODULUS = 2**256

# Tags of protocol buffers: a field's number and, in the last three bits, 0 for a number or 2 for
# bytes of a summary length.
_FEATURES = b"\x0a"  # Example.features
_ENTRY = b"\x0a"  # Features.feature, a map
_KEY, _VALUE = b"\x0a", b"\x12"  # an entry of it
_BYTES_LIST, _INT64_LIST = b"\x0a", b"\x1a"  # Feature
_ITEMS = b"\x0a"  # BytesList.value, and Int64List.value, which is packed
_SMALL = [bytes([number]) for number in range(128)]
_UNSIGNED = 2**64 - 1


def encode(instruction: Instruction, number: int) -> bytes:
    """Writes a record and its number as `tf.train.Example`, its features in alphabetical order.

    The bytes are those of the protobuf classes in deterministic form, made a dozen times as fast:
    what many records have in common is written once.
    """
    it = instruction
    inputs, targets = it.inputs.encode("utf-8"), it.targets.encode("utf-8")
    text = b"".join(
        (
            _numbers(b"candidates", it.candidates),
            _head(b"inputs", _BYTES_LIST, len(inputs)),
            inputs,
            _label(b"language", it.language),
            _number(b"number", number),
            _labels(it.scenario, it.seed, it.split, it.strategy),
            _number(b"target_item", it.target_item),
            _head(b"targets", _BYTES_LIST, len(targets)),
            targets,
            _label(b"task", it.task),
            _label(b"template", it.template),
            _number(b"user", it.user),
        )
    )
    return _FEATURES + _varint(len(text)) + text


def record_sha256(content: bytes) -> int:
    """Returns the SHA-256 of an encoded record as a number.

    The checksum of a set is the sum of those of its records, modulo `HASH_MODULUS`: it does not
    depend on their order nor on how they are spread over files, and parts of a set add up.
    """
    return int.from_bytes(hashlib.sha256(content).digest(), "big")


def hash_text(total: int) -> str:
    """Writes a sum of checksums as 64 hexadecimal digits."""
    return f"{total % HASH_MODULUS:064x}"


def plain_values(record: Any) -> dict[str, Any]:
    """Turns the features of a record, as TFDS reads them, into the fields of an `Instruction`."""
    return {name: _plain(record[name]) for name in FIELDS}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, list):
        return tuple(int(number) for number in value)
    return np.asarray(value).tolist()


def _varint(number: int) -> bytes:
    number &= _UNSIGNED
    if number < 128:
        return _SMALL[number]
    if number < 16_384:
        return bytes((number & 127 | 128, number >> 7))
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


@functools.lru_cache(maxsize=16_384)
def _head(key: bytes, kind: bytes, size: int) -> bytes:
    """Writes all of a feature that stands before its content, a text or numbers of a size."""
    items = _ITEMS + _varint(size)
    feature = kind + _varint(len(items) + size)
    entry = _KEY + _SMALL[len(key)] + key + _VALUE
    entry += _varint(len(feature) + len(items) + size) + feature + items
    return _ENTRY + _varint(len(entry) + size) + entry


# Labels come again and again, unlike prompts and numbers.
@functools.lru_cache(maxsize=4_096)
def _label(key: bytes, text: str) -> bytes:
    content = text.encode("utf-8")
    return _head(key, _BYTES_LIST, len(content)) + content


def _numbers(key: bytes, numbers: tuple[int, ...]) -> bytes:
    if not numbers:
        return _nothing(key)
    packed = b"".join(map(_varint, numbers))
    return _head(key, _INT64_LIST, len(packed)) + packed


@functools.lru_cache(maxsize=16)
def _nothing(key: bytes) -> bytes:
    entry = _KEY + _SMALL[len(key)] + key + _VALUE + _SMALL[2] + _INT64_LIST + _SMALL[0]
    return _ENTRY + _varint(len(entry)) + entry


def _number(key: bytes, number: int) -> bytes:
    packed = _varint(number)
    return _head(key, _INT64_LIST, len(packed)) + packed


@functools.lru_cache(maxsize=4_096)
def _labels(scenario: str, seed: int, split: str, strategy: str) -> bytes:
    return b"".join(
        (
            _label(b"scenario", scenario),
            _number(b"seed", seed),
            _label(b"split", split),
            _label(b"strategy", strategy),
        )
    )
