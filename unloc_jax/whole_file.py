"""Checks by their structure whether files are whole, so that a long length in the header is not taken for a cut."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def is_whole(path: Path, format_name: str) -> bool:
    """Returns whether nothing is missing at the end of a file; False if its format does not tell.

    Args:
      path: a video file.
      format_name: FFmpeg's name of its format.
    """
    if "mp4" in format_name.split(","):
        return not is_cut_mp4(path)
    check = {"avi": _is_whole_avi, "flv": _is_whole_flv}.get(format_name)
    with path.open("rb") as file:
        return check is not None and check(file, path.stat().st_size)


def is_cut_mp4(path: Path) -> bool:
    """Returns whether a file starts like an MP4 and lacks some of its top-level boxes (ISO/IEC 14496-12, 4.2)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if file.read(8)[4:] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
            return False
        position = 0
        has_moov = False
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            elif length == 0:  # extends to the end of the file
                length = size - position
            if length < 8:
                break
            position += length
            has_moov |= header[4:8] == b"moov" and position <= size
        return position > size or not has_moov


def _is_whole_avi(file: BinaryIO, size: int) -> bool:
    """Checks that every RIFF chunk has its length, and that the index, written last, or OpenDML's chunks are there."""
    riffs = list(_chunks(file, 0, size))
    if not riffs or any(name != b"RIFF" or end > size for name, _, end in riffs):
        return False
    _, start, end = riffs[0]
    return len(riffs) > 1 or any(name == b"idx1" for name, _, _ in _chunks(file, start + 4, end))


def _chunks(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields (name, first byte of the content, end) of the RIFF chunks between two positions."""
    while start + 8 <= end:
        file.seek(start)
        header = file.read(8)
        content, length = start + 8, int.from_bytes(header[4:], "little")
        yield header[:4], content, content + length
        start = content + length + length % 2


def _is_whole_flv(file: BinaryIO, size: int) -> bool:
    """Checks the last four bytes: the size of the tag before them, its header's plus 11 (Adobe's FLV 10.1, E.3)."""
    if size < 4:
        return False
    file.seek(size - 4)
    length = int.from_bytes(file.read(4), "big")
    if not 11 <= length <= size - 4:
        return False
    file.seek(size - 4 - length)
    return int.from_bytes(file.read(4)[1:], "big") == length - 11
