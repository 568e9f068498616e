"""Reads and writes TFRecord files byte by byte, without TensorFlow.

A file is a sequence of records: length (8 bytes, little endian), masked CRC-32C of the length (4 bytes), data, masked
CRC-32C of the data (4 bytes). Reading the 12 bytes before each record's data finds all records.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from unloc_jax.errors import UserError

HEADER_BYTES = 12
FOOTER_BYTES = 4
_PIECE_BYTES = 1 << 20


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
    return _masked(google_crc32c.value(data))


def read_checked(file: BinaryIO, offset: int, block: memoryview) -> bool:
    """Reads the data and the checksum of a record, and compares them.

    Args:
      file: unbuffered, opened for reading.
      offset: start of the data in bytes.
      block: receives the data, followed by the FOOTER_BYTES.

    Returns:
      Whether the file holds all of it and the checksum is right.
    """
    data, footer = block[:-FOOTER_BYTES], block[-FOOTER_BYTES:]
    crc = 0
    # In pieces, whose checksum is computed while they are in the processor's cache: 28 MB take 6.9 ms of CPU instead of
    # 8.1, and without checksums 5.4.
    for start in range(0, len(data), _PIECE_BYTES):
        piece = data[start : start + _PIECE_BYTES]
        if os.preadv(file.fileno(), [piece], offset + start) != len(piece):
            return False
        # The library wants a read-only buffer, and refuses a memoryview.
        crc = google_crc32c.extend(crc, np.frombuffer(piece.toreadonly(), np.uint8))
    whole = os.preadv(file.fileno(), [footer], offset + len(data)) == FOOTER_BYTES
    return whole and struct.unpack("<I", footer)[0] == _masked(crc)


def _masked(crc: int) -> int:
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
