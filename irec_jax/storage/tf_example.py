"""Encoding of records as `tf.train.Example`, the record format of TFDS, without protobuf classes.

The bytes are those of the protobuf classes in deterministic form, written about twelve times as
fast: parts that many records share are encoded once. The caller chooses names and kinds of
features and lists them in alphabetical order of their names.
"""

import functools
from collections.abc import Sequence

# Tags of protocol buffers: a field's number and, in the last three bits, 0 for a number or 2 for
# bytes with a length.
_FEATURES = b"\x0a"  # Example.features
_ENTRY = b"\x0a"  # Features.feature, a map
_KEY, _VALUE = b"\x0a", b"\x12"  # an entry of it
_BYTES_LIST, _INT64_LIST = b"\x0a", b"\x1a"  # Feature
_ITEMS = b"\x0a"  # BytesList.value, and Int64List.value, which is packed
_SMALL = [bytes([number]) for number in range(128)]
_UNSIGNED = 2**64 - 1


def encode_example(features: Sequence[bytes]) -> bytes:
    """Joins encoded features into one `tf.train.Example`.

    Args:
        features: Results of the functions below, in alphabetical order of their names.
    """
    content = b"".join(features)
    return _FEATURES + _varint(len(content)) + content


def encode_text(name: bytes, text: str) -> bytes:
    """Encodes a feature with one text as UTF-8.

    Args:
        name: The feature, at most 127 bytes.
        text: Its value.
    """
    content = text.encode("utf-8")
    return _head(name, _BYTES_LIST, len(content)) + content


@functools.lru_cache(maxsize=4_096)
def encode_label(name: bytes, text: str) -> bytes:
    """Encodes a text feature with few different values; results are cached."""
    return encode_text(name, text)


def encode_int(name: bytes, number: int) -> bytes:
    """Encodes a feature with one int64."""
    packed = _varint(number)
    return _head(name, _INT64_LIST, len(packed)) + packed


def encode_ints(name: bytes, numbers: Sequence[int]) -> bytes:
    """Encodes a feature with a list of int64."""
    if not numbers:
        return _empty_list(name)
    packed = b"".join(map(_varint, numbers))
    return _head(name, _INT64_LIST, len(packed)) + packed


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
def _head(name: bytes, kind: bytes, size: int) -> bytes:
    """Encodes all of a feature that precedes its content of `size` bytes."""
    items = _ITEMS + _varint(size)
    feature = kind + _varint(len(items) + size)
    entry = _KEY + _SMALL[len(name)] + name + _VALUE
    entry += _varint(len(feature) + len(items) + size) + feature + items
    return _ENTRY + _varint(len(entry) + size) + entry


@functools.lru_cache(maxsize=16)
def _empty_list(name: bytes) -> bytes:
    entry = _KEY + _SMALL[len(name)] + name + _VALUE + _SMALL[2] + _INT64_LIST + _SMALL[0]
    return _ENTRY + _varint(len(entry)) + entry
