"""TFRecord files, byte by byte, without TensorFlow.

A file is a sequence of records: length (8 bytes, little endian), masked CRC-32C of the length (4 bytes), data, masked
CRC-32C of the data (4 bytes). Reading the 12 bytes before each record's data finds all records.
"""

import struct
from pathlib import Path

import google_crc32c

from unloc_jax.errors import UserError

HEADER_BYTES = 12
FOOTER_BYTES = 4


def scan(file: Path, remedy: str) -> list[tuple[int, int]]:
    """(offset, length) of the data of every record of a file.

    Raises:
      UserError: a file that is missing, truncated or no TFRecord file; the message ends with `remedy`.
    """
    records: list[tuple[int, int]] = []
    try:
        size = file.stat().st_size
    except OSError as error:
        raise UserError(f"{file}: the shard is missing. {remedy}") from error
    position = 0
    with file.open("rb", buffering=0) as opened:
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
    """The bytes of one record."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated right by 15 bits, plus a constant (tensorflow/core/lib/hash/crc32c.h)."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
