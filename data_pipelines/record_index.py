"""Random access into a built dataset's TFRecord shards, without TensorFlow.

A TFRecord file is a sequence of records: length (8 bytes, little endian), masked CRC-32C of the length (4
bytes), data, masked CRC-32C of the data (4 bytes). Reading the 12 bytes before each record's data finds all
records of a shard.
"""

import contextlib
import dataclasses
import json
import mmap
import os
import shlex
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self

import google_crc32c
import numpy as np

from data_pipelines.tf_example import Buffer, parse_example
from unloc_jax.errors import UserError
from unloc_jax.records import VideoRecord

HEADER_BYTES = 12
FOOTER_BYTES = 4
_ANNOTATION_FEATURES = ("video_id", "duration_s", "fps", "segments_s", "texts", "attributes", "saliency")


@dataclasses.dataclass(frozen=True, eq=False)
class RecordIndex:
    """Where the records of a split are, in a fixed order: shard after shard, then by position in the shard.

    Attributes:
      split: "train", "validation" or "test".
      files: the shards in order.
      shards: int32 [N], for each record the index of its shard in `files`.
      offsets: int64 [N], where the record's data starts, in bytes.
      lengths: int64 [N], the length of its data in bytes.
    """

    split: str
    files: tuple[Path, ...]
    shards: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray

    @classmethod
    def from_dir(cls, dataset_dir: str | Path, split: str) -> "RecordIndex":
        """Scans the shards of a split.

        Args:
          dataset_dir: a directory that `find_dataset` returns (it holds dataset_info.json).
          split: "train", "validation" or "test".

        Raises:
          UserError: no dataset there, no such split or an empty one, or a shard that is missing, truncated or
            no TFRecord file.
        """
        dataset_dir = Path(dataset_dir)
        shard_lengths = _shard_lengths(dataset_dir)
        if not sum(shard_lengths.get(split, [])):
            there = [name for name, lengths in shard_lengths.items() if sum(lengths)]
            raise UserError(
                f"{dataset_dir}: there is no split {split!r} with videos in it; "
                f"splits: {', '.join(there) or 'none'}."
            )
        total = len(shard_lengths[split])
        files: list[Path] = []
        for number in range(total):
            files.append(dataset_dir / f"unloc_data-{split}.tfrecord-{number:05d}-of-{total:05d}")
        index = cls.from_files(split, files)
        counts = np.bincount(index.shards, minlength=total).tolist()
        for file, count, expected in zip(files, counts, shard_lengths[split]):
            if count != expected:
                raise UserError(
                    f"{file}: the shard is truncated after record {count - 1}: it should hold "
                    f"{expected} records. {cls._remedy(file)}"
                )
        return index

    @classmethod
    def from_files(cls, split: str, files: Sequence[Path], **fields: Any) -> Self:
        """Scans TFRecord files, the shards of a split in their order.

        Args:
          split: "train", "validation" or "test".
          files: the shards.
          **fields: fields that a subclass adds.

        Raises:
          UserError: a file that is missing, truncated or no TFRecord file.
        """
        scanned = [_scan(file, cls._remedy(file)) for file in files]
        shards = np.repeat(np.arange(len(files), dtype=np.int32), [len(records) for records in scanned])
        positions = [position for records in scanned for position in records]
        offsets, lengths = np.array(positions, np.int64).reshape(-1, 2).T
        return cls(split, tuple(files), shards, offsets, lengths, **fields)

    @classmethod
    def _remedy(cls, file: Path) -> str:
        """What a user can do about a damaged shard: the last sentence of the messages about one."""
        return (
            "If the dataset was copied here, copy this file again. Otherwise make it anew: "
            f"`unloc data rebuild-shard {shlex.quote(str(file))}`."
        )

    def _parse(self, i: int, data: Buffer, with_frames: bool, with_features: bool | None) -> VideoRecord:
        """Record i from its data; ValueError if the data is no example of ours."""
        return parse_record(data, self.split, with_frames, with_features)

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, i: int) -> bytes:
        """The data of record i: a serialized tf.train.Example. Safe to call from several threads.

        Raises:
          IndexError: i is outside [0, len).
          UserError: the data does not match its checksum, or the shard has shrunk or cannot be read.
        """
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        file = self.files[self.shards[i]]
        length = int(self.lengths[i])
        try:
            with file.open("rb") as opened:
                opened.seek(int(self.offsets[i]))
                block = opened.read(length + FOOTER_BYTES)
        except OSError as error:
            raise UserError(self.describe(i, f"cannot be read: {error.strerror}")) from error
        data, footer = block[:length], block[length:]
        if len(footer) < FOOTER_BYTES or masked_crc(data) != struct.unpack("<I", footer)[0]:
            raise UserError(
                f"{file}: record {self._position_in_shard(i)} is corrupted (checksum). {self._remedy(file)}"
            )
        return data

    def record(self, i: int, with_frames: bool = True, with_features: bool | None = None) -> VideoRecord:
        """Record i with its frames and features; `with_features` None means the same as for the frames.

        Raises:
          IndexError, UserError: as `read`; also UserError if the data is no example of ours.
        """
        data = self.read(i)
        with self._naming_the_record(i):
            return self._parse(i, data, with_frames, with_features)

    def annotations(self) -> Iterator[VideoRecord]:
        """All records in order, without frames and features.

        Only the annotations are read from disk, some hundred bytes of every record; checksums are not verified.

        Raises:
          UserError: the data of a record is no example of ours, or a shard cannot be read.
        """
        for number in np.unique(self.shards).tolist():
            file = self.files[number]
            try:
                with file.open("rb") as opened:
                    shard = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
            except (OSError, ValueError) as error:  # ValueError: it is empty
                raise UserError(f"{file}: cannot be read: {error}. {self._remedy(file)}") from error
            for i in np.flatnonzero(self.shards == number).tolist():
                offset, length = int(self.offsets[i]), int(self.lengths[i])
                with self._naming_the_record(i):
                    record = self._parse(i, shard[offset : offset + length], False, None)
                yield record

    @contextlib.contextmanager
    def _naming_the_record(self, i: int) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise UserError(self.describe(i, str(error))) from error

    def describe(self, i: int, reason: str) -> str:
        """What is wrong with record i, where it is, and what to do."""
        file = self.files[self.shards[i]]
        return f"{file}: record {self._position_in_shard(i)}: {reason}. {self._remedy(file)}"

    def _position_in_shard(self, i: int) -> int:
        return i - int(np.searchsorted(self.shards, self.shards[i]))


def read_record(dataset_dir: str | Path, split: str, i: int) -> VideoRecord:
    """Record i of a split with its frames and features. To read many, keep a RecordIndex and use its `record`.

    Raises:
      UserError: see `RecordIndex.from_dir` and `RecordIndex.read`.
    """
    return RecordIndex.from_dir(dataset_dir, split).record(i)


def iterate_records(dataset_dir: str | Path, split: str, with_frames: bool) -> Iterator[VideoRecord]:
    """All records of a split in the order of its RecordIndex.

    Without frames (and features) it is fast: see `RecordIndex.annotations`.

    Raises:
      UserError: see `RecordIndex.from_dir` and `RecordIndex.read`.
    """
    index = RecordIndex.from_dir(dataset_dir, split)
    if with_frames:
        return (index.record(i) for i in range(len(index)))
    return index.annotations()


def parse_record(
    data: Buffer, split: str, with_frames: bool, with_features: bool | None = None
) -> VideoRecord:
    """A serialized tf.train.Example of the `unloc_data` builder as a VideoRecord.

    Args:
      data: the serialized message.
      split: "train", "validation" or "test".
      with_frames: False leaves the frames out.
      with_features: False leaves the precomputed features out; None means the same as for the frames.

    Raises:
      ValueError: not such an example.
    """
    with_features = with_frames if with_features is None else with_features
    wanted = (*_ANNOTATION_FEATURES, "frames") if with_frames else _ANNOTATION_FEATURES
    example = parse_example(data, wanted, prefixes=("features/", "feature_rows/") if with_features else ())
    try:
        return VideoRecord(
            video_id=_strings(example["video_id"])[0],
            duration_s=_number(example["duration_s"]),
            split=split,
            segments_s=np.array(example["segments_s"], np.float32).reshape(-1, 2),
            texts=_strings(example["texts"]),
            attributes=[_json_object(text) for text in _strings(example["attributes"])],
            fps=_number(example["fps"]),
            frames=_byte_strings(example.get("frames", [])),
            features={
                name.removeprefix("features/"): _feature_rows(example, name)
                for name in sorted(example)
                if name.startswith("features/")
            },
            saliency={
                text: np.array(scores, np.float32)
                for json_text in _strings(example.get("saliency", []))
                for text, scores in _json_object(json_text).items()
            },
        )
    except KeyError as error:
        raise ValueError(f"not an unloc_data example, it has no {error}") from error
    except (IndexError, TypeError, OverflowError) as error:
        raise ValueError(f"not an unloc_data example ({error})") from error


def _byte_strings(values: list[bytes] | np.ndarray) -> list[bytes]:
    # A feature without values does not tell its type.
    if isinstance(values, np.ndarray) and values.size:
        raise ValueError("not an unloc_data example, numbers where texts or frames should be")
    return list(values)


def _strings(values: list[bytes] | np.ndarray) -> list[str]:
    return [value.decode() for value in _byte_strings(values)]


def _number(values: list[bytes] | np.ndarray) -> float:
    if not isinstance(values, np.ndarray):
        raise ValueError("not an unloc_data example, a number is missing")
    return float(values[0])


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("not an unloc_data example, its JSON is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"not an unloc_data example, {text[:40]!r} where a JSON object should be")
    return value


def _feature_rows(example: dict[str, list[bytes] | np.ndarray], name: str) -> np.ndarray:
    """float32 [F, D]; the values are stored flat, F beside them."""
    rows = int(_number(example[name.replace("features/", "feature_rows/", 1)]))
    values = np.array(example[name], np.float32)
    if rows < 1 or values.size < rows or values.size % rows:
        raise ValueError(f"{name}: {values.size} values are not {rows} rows")
    return values.reshape(rows, -1)


def _shard_lengths(dataset_dir: Path) -> dict[str, list[int]]:
    """Records per shard of every split, from the dataset_info.json that TFDS writes."""
    try:
        info = json.loads((dataset_dir / "dataset_info.json").read_text("utf-8"))
        return {
            split["name"]: [int(n) for n in split.get("shardLengths", [])] for split in info.get("splits", [])
        }
    except FileNotFoundError as error:
        raise UserError(
            f"{dataset_dir}: no dataset here. Build one with `unloc data build … --out DIR`."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{dataset_dir / 'dataset_info.json'}: damaged. If the dataset was copied here, copy this file again. "
            "Otherwise delete the dataset directory and run the same `unloc data build …` again."
        ) from error


def _scan(file: Path, remedy: str) -> list[tuple[int, int]]:
    """(offset, length) of the data of every record of a shard."""
    try:
        with file.open("rb", buffering=0) as opened:
            return _records_in(file, opened, remedy)
    except OSError as error:
        raise UserError(
            f"{file}: the shard is missing or cannot be read: {error.strerror}. {remedy}"
        ) from error


def _records_in(file: Path, opened: BinaryIO, remedy: str) -> list[tuple[int, int]]:
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
    """The bytes of one record of a shard."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated right by 15 bits, plus a constant (tensorflow/core/lib/hash/crc32c.h)."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
