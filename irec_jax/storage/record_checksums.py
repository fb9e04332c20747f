"""Checksum of a set of records that does not depend on their order or files."""

import hashlib

HASH_MODULUS = 2**256


def record_sha256(content: bytes) -> int:
    """Returns the SHA-256 of an encoded record as an integer.

    The checksum of a set is the sum over its records modulo `HASH_MODULUS`, so the checksums of
    parts of a set add up.
    """
    return int.from_bytes(hashlib.sha256(content).digest(), "big")


def hex_checksum(total: int) -> str:
    """Returns a sum of checksums as 64 hexadecimal digits."""
    return f"{total % HASH_MODULUS:064x}"
