"""RecordIndex: random access to a built dataset's TFRecord shards, without TensorFlow."""

import contextlib
import dataclasses
import mmap
import shlex
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from data_pipelines.reading.tf_example import Buffer, Values, parse_example
from data_pipelines.reading.tfrecord import FOOTER_BYTES, read_checked, scan
from unloc_jax.errors import UserError
from unloc_jax.foreign_text import parse_json
from unloc_jax.records import VideoRecord
from unloc_jax.sound_windows import Sound

_SOUND_FEATURES = ("sound", "sound_rate", "sound_heard")
_ANNOTATION_FEATURES = ("video_id", "duration_s", "fps", "segments_s", "texts", "attributes", "saliency")


@dataclasses.dataclass(frozen=True, eq=False)
class RecordIndex:
    """Locations of the records of a split, in a fixed order: shard after shard, then by position in the shard.

    Attributes:
      split: "train", "validation" or "test".
      files: the shards in order.
      shards: int32 [N], each record's index of its shard in `files`.
      offsets: int64 [N], start of each record's data in bytes.
      lengths: int64 [N], length of each record's data in bytes.
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
          UserError: there is no dataset, the split is missing or empty, or a shard is missing, truncated or not a
            TFRecord file.
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
        names = [f"unloc_data-{split}.tfrecord-{number:05d}-of-{total:05d}" for number in range(total)]
        index = cls.from_files(split, [dataset_dir / name for name in names])
        counts = np.bincount(index.shards, minlength=total).tolist()
        for file, count, expected in zip(index.files, counts, shard_lengths[split]):
            if count != expected:
                raise UserError(
                    f"{file}: the shard is truncated after record {count - 1}: it should hold {expected} records. "
                    f"{cls._remedy(file)}"
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
          UserError: a file is missing, truncated or not a TFRecord file.
        """
        scanned = [scan(file, cls._remedy(file)) for file in files]
        shards = np.repeat(np.arange(len(files), dtype=np.int32), [len(records) for records in scanned])
        positions = [position for records in scanned for position in records]
        offsets, lengths = np.array(positions, np.int64).reshape(-1, 2).T
        return cls(split, tuple(files), shards, offsets, lengths, **fields)

    @classmethod
    def _remedy(cls, file: Path) -> str:
        """Returns the last sentence of messages about a damaged shard: what the user can do."""
        return (
            "If the dataset was copied here, copy this file again. Otherwise rebuild it: "
            f"`unloc data rebuild-shard {shlex.quote(str(file))}`."
        )

    def _parse(
        self,
        i: int,
        data: Buffer,
        with_frames: bool,
        with_features: bool | None,
        views: bool,
        with_sound: bool | None = None,
    ) -> VideoRecord:
        """Parses the data of record i; raises ValueError if it is not an example of ours."""
        return parse_record(data, self.split, with_frames, with_features, views, with_sound)

    def __len__(self) -> int:
        return len(self.offsets)

    def read(self, i: int) -> bytes:
        """Reads the data of record i, a serialized tf.train.Example; thread-safe.

        Raises:
          IndexError: i is outside [0, len).
          UserError: the data does not match its checksum, or the shard has shrunk or is unreadable.
        """
        return bytes(self._read(i))

    def record(
        self,
        i: int,
        with_frames: bool = True,
        with_features: bool | None = None,
        with_sound: bool | None = None,
    ) -> VideoRecord:
        """Reads record i with its frames, features and sound; None means the same as for the frames.

        Raises:
          IndexError, UserError: as `read`; also UserError if the data is not an example of ours.
        """
        data = self._read(i)
        with self._errors_name_record(i):
            return self._parse(i, data, with_frames, with_features, views=False, with_sound=with_sound)

    def borrow(self, i: int, with_frames: bool, with_features: bool, with_sound: bool = False) -> VideoRecord:
        """Does what `record` does without copying frames and sound, for callers that need only some of them.

        Frames and samples are views of memory that the next read of this thread overwrites.
        """
        data = self._read(i)
        with self._errors_name_record(i):
            return self._parse(i, data, with_frames, with_features, views=True, with_sound=with_sound)

    def _read(self, i: int) -> memoryview:
        """Reads the data of record i into this thread's buffer; its checksum is compared at every read."""
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        size = int(self.lengths[i]) + FOOTER_BYTES
        block = _buffer(size)
        file = self.files[self.shards[i]]
        try:
            with file.open("rb", buffering=0) as opened:
                whole = read_checked(opened, int(self.offsets[i]), block)
        except OSError as error:
            raise UserError(self.describe(i, f"cannot be read: {error.strerror}")) from error
        if not whole:
            raise UserError(
                f"{file}: record {self._position_in_shard(i)} is corrupted (checksum). {self._remedy(file)}"
            )
        return block[:-FOOTER_BYTES].toreadonly()

    def annotations(self) -> Iterator[VideoRecord]:
        """Yields all records in order, without frames, features and sound.

        Reads only the annotations from disk, some hundred bytes of every record; does not verify checksums.

        Raises:
          UserError: the data of a record is not an example of ours, or a shard is unreadable.
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
                with self._errors_name_record(i):
                    data = shard[offset : offset + length]
                    record = self._parse(i, data, False, None, views=False)
                yield record

    @contextlib.contextmanager
    def _errors_name_record(self, i: int) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            raise UserError(self.describe(i, str(error))) from error

    def describe(self, i: int, reason: str) -> str:
        """Returns a message: the problem with record i, its location, and what to do."""
        file = self.files[self.shards[i]]
        return f"{file}: record {self._position_in_shard(i)}: {reason}. {self._remedy(file)}"

    def _position_in_shard(self, i: int) -> int:
        return i - int(np.searchsorted(self.shards, self.shards[i]))


def read_record(dataset_dir: str | Path, split: str, i: int) -> VideoRecord:
    """Reads record i of a split with its frames and features. To read many, keep a RecordIndex and use its `record`.

    Raises:
      UserError: see `RecordIndex.from_dir` and `RecordIndex.read`.
    """
    return RecordIndex.from_dir(dataset_dir, split).record(i)


def iterate_records(dataset_dir: str | Path, split: str, with_frames: bool) -> Iterator[VideoRecord]:
    """Yields all records of a split in the order of its RecordIndex.

    Fast without frames (and features): see `RecordIndex.annotations`.

    Raises:
      UserError: see `RecordIndex.from_dir` and `RecordIndex.read`.
    """
    index = RecordIndex.from_dir(dataset_dir, split)
    if with_frames:
        return (index.record(i) for i in range(len(index)))
    return index.annotations()


_BUFFERS = threading.local()


def _buffer(size: int) -> memoryview:
    """Returns this thread's reusable buffer: allocating new memory costs as much as reading into it."""
    if size > len(getattr(_BUFFERS, "memory", b"")):
        _BUFFERS.memory = bytearray(size)
    return memoryview(_BUFFERS.memory)[:size]


def parse_record(
    data: Buffer,
    split: str,
    with_frames: bool,
    with_features: bool | None = None,
    views: bool = False,
    with_sound: bool | None = None,
) -> VideoRecord:
    """Parses a serialized tf.train.Example of the `unloc_data` builder.

    Args:
      data: the serialized message.
      split: "train", "validation" or "test".
      with_frames: False skips the frames.
      with_features: False skips the precomputed features; None means the same as for the frames.
      views: returns frames and samples as views of the data instead of copies.
      with_sound: False skips the sound; None means the same as for the frames.

    Raises:
      ValueError: not such an example.
    """
    with_features = with_frames if with_features is None else with_features
    wanted = (*_ANNOTATION_FEATURES, "frames") if with_frames else _ANNOTATION_FEATURES
    prefixes = ("features/", "feature_rows/", "feature_times_s/") if with_features else ()
    if with_frames if with_sound is None else with_sound:
        wanted = (*wanted, *_SOUND_FEATURES)
    example = parse_example(data, wanted, prefixes, views=("frames", "sound") if views else ())
    try:
        return VideoRecord(
            video_id=_strings(example["video_id"])[0],
            duration_s=_number(example["duration_s"]),
            split=split,
            segments_s=np.array(example["segments_s"], np.float32).reshape(-1, 2),
            texts=_strings(example["texts"]),
            attributes=[_json_object(text) for text in _strings(example["attributes"])],
            fps=_number(example["fps"]),
            frames=_binary(example.get("frames", [])),
            features={
                name.removeprefix("features/"): _feature_rows(example, name)
                for name in sorted(example)
                if name.startswith("features/")
            },
            feature_times_s={
                name.removeprefix("feature_times_s/"): np.array(times_s, np.float32)
                for name, times_s in sorted(example.items())
                if name.startswith("feature_times_s/") and len(times_s)
            },
            saliency={
                text: np.array(scores, np.float32)
                for foreign_text in _strings(example.get("saliency", []))
                for text, scores in _json_object(foreign_text).items()
            },
            sound=_sound(example),
        )
    except KeyError as error:
        raise ValueError(f"not an unloc_data example, it has no {error}") from error
    except (IndexError, TypeError, OverflowError) as error:
        raise ValueError(f"not an unloc_data example ({error})") from error


def _sound(example: dict[str, Values]) -> Sound | None:
    """Returns the stored sound; None if the video has none, or if it was not wanted."""
    rate = int(_number(example["sound_rate"])) if "sound_rate" in example else 0
    if not rate:
        return None
    (samples,) = _binary(example["sound"])
    if len(samples) % 2:
        raise ValueError(f"its sound of {len(samples)} bytes is not whole samples")
    heard = np.array(example["sound_heard"], np.float64).reshape(-1, 2)
    return Sound(np.frombuffer(samples, "<i2"), rate, heard)


def _binary(values: Values) -> list[bytes | memoryview]:
    # The type of a feature without values is unknown.
    if isinstance(values, np.ndarray) and values.size:
        raise ValueError("not an unloc_data example, numbers where texts or frames should be")
    return list(values)


def _strings(values: Values) -> list[str]:
    return [bytes(value).decode() for value in _binary(values)]


def _number(values: Values) -> float:
    if not isinstance(values, np.ndarray):
        raise ValueError("not an unloc_data example, a number is missing")
    return float(values[0])


def _json_object(text: str) -> dict[str, Any]:
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError(f"not an unloc_data example, {text[:40]!r} where a JSON object should be")
    return value


def _feature_rows(example: dict[str, Values], name: str) -> np.ndarray:
    """Returns a modality's features, float32 [F, D]; the example stores them flat, and F separately."""
    rows = int(_number(example[name.replace("features/", "feature_rows/", 1)]))
    values = np.array(example[name], np.float32)
    if rows < 1 or values.size < rows or values.size % rows:
        raise ValueError(f"{name}: {values.size} values are not {rows} rows")
    return values.reshape(rows, -1)


def _shard_lengths(dataset_dir: Path) -> dict[str, list[int]]:
    """Returns the records per shard of every split, from the dataset_info.json that TFDS writes."""
    try:
        info = parse_json((dataset_dir / "dataset_info.json").read_text("utf-8"))
        return {
            split["name"]: [int(n) for n in split.get("shardLengths", [])] for split in info.get("splits", [])
        }
    except FileNotFoundError as error:
        raise UserError(
            f"{dataset_dir}: no dataset here. Build one with `unloc data build … --out DIR`."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{dataset_dir / 'dataset_info.json'}: damaged. If the dataset was copied here, copy this file again. "
            "Otherwise delete the dataset directory and run the same `unloc data build …` again."
        ) from error
