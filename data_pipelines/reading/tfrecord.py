"""Reads and writes TFRecord files byte by byte, without TensorFlow.

A file is a sequence of records: length (8 bytes, little endian), masked CRC-32C of the length (4 bytes), data, masked
CRC-32C of the data (4 bytes). Reading the 12 bytes before each record's data finds all records.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from unloc_jax.errors import UserError

HEADER_BYTES = 12
FOOTER_BYTES = 4


def scan(file: Path, remedy: str) -> list[tuple[int, int]]:
    """Returns (offset, length) in bytes of the data of every record of a file.

    Raises:
      UserError: the file is missing, truncated or not a TFRecord file; the message ends with `remedy`.
    """
    try:
        with file.open("rb", buffering=0) as opened:
            return _scan(file, opened, remedy)
    except OSError as error:
        raise UserError(
            f"{file}: the shard is missing or cannot be read: {error.strerror}. {remedy}"
        ) from error


def _scan(file: Path, opened: BinaryIO, remedy: str) -> list[tuple[int, int]]:
    records: list[tuple[int, int]] = []
    size = opened.seek(0, os.SEEK_END)
    position = 0
    while position < size:
        opened.seek(position)
        header = opened.read(HEADER_BYTES)
        if len(header) == HEADER_BYTES:
            length, checksum = struct.unpack("<QI", header)
            if masked_crc(header[:8]) != checksum:
                raise UserError(
                    f"{file}: record {len(records)} is corrupted (checksum of its length). {remedy}"
                )
            end = position + HEADER_BYTES + length + FOOTER_BYTES
        if len(header) < HEADER_BYTES or end > size:
            raise UserError(f"{file}: the shard is truncated inside record {len(records)}. {remedy}")
        records.append((position + HEADER_BYTES, length))
        position = end
    return records


def tfrecord(data: bytes) -> bytes:
    """Returns the bytes of one record."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def masked_crc(data: bytes) -> int:
    """Returns the CRC-32C, rotated right by 15 bits, plus a constant (tensorflow/core/lib/hash/crc32c.h)."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
