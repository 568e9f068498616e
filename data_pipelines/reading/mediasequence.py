"""Reads shards in the MediaSequence layout (tf.train.SequenceExample), as written by Scenic's UnLoc and DMVR.

The keys are those of https://github.com/google-ai-edge/mediapipe/tree/master/mediapipe/util/sequence; which keys are
read in which case follows Scenic's UnLoc (scenic/projects/unloc/datasets). TensorFlow is not needed.

Times. Frame i is at i / fps seconds; `segment/start/index` and `segment/end/index` are frame numbers, and both frames
belong to the segment: it lasts from start / fps to end / fps seconds. `segment/*/timestamp` are microseconds. Scenic
trains on the frame numbers and evaluates against the timestamps, so a training split prefers the numbers and the other
splits prefer the timestamps. See docs/mediasequence.md.
"""

import collections
import csv
import dataclasses
import functools
import hashlib
import io
import json
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data_pipelines.annotations.problems import Problems
from data_pipelines.annotations.split_names import SPLITS
from data_pipelines.reading.record_index import RecordIndex
from data_pipelines.reading.shard_files import find_shards
from data_pipelines.reading.shards import ShardMetadata
from data_pipelines.reading.tf_example import Buffer, SequenceExample, Values
from unloc_jax.config import MediaSequenceConfig
from unloc_jax.console import show
from unloc_jax.errors import UserError
from unloc_jax.names import normal_text
from unloc_jax.records import VideoRecord
from unloc_jax.sound_windows import Sound

_OPTION = "config.data.mediasequence"
_SOUND_RATE, _SOUND_CHANNELS = "WAVEFORM/feature/sample_rate", "WAVEFORM/feature/num_channels"
_MICROSECONDS = 1e6
_HIGHEST_SOUND_RATE = 192_000
_LOWEST_FPS = 1e-6  # a lower rate is a damaged number: times would exceed float32


@dataclasses.dataclass
class Findings:
    """Findings of reading many examples.

    Attributes:
      problems: what was left out, by kind.
      names: the class names that occurred with each class number.
      num_segments, num_texts: of all records.
      keys: the context keys of all records.
    """

    problems: Problems = dataclasses.field(default_factory=Problems)
    names: dict[int, set[str]] = dataclasses.field(default_factory=lambda: collections.defaultdict(set))
    num_segments: int = 0
    num_texts: int = 0
    keys: set[str] = dataclasses.field(default_factory=set)


def parse_sequence_example(
    data: Buffer,
    split: str,
    config: MediaSequenceConfig,
    *,
    with_frames: bool,
    with_features: bool | None = None,
    views: bool = False,
    with_sound: bool = False,
    name: str = "",
    findings: Findings | None = None,
) -> VideoRecord:
    """Parses a serialized tf.train.SequenceExample in the MediaSequence layout.

    Args:
      data: the serialized message.
      split: "train", "validation" or "test"; decides between frame numbers and timestamps (see above).
      config: the keys.
      with_frames: False skips the frames without reading their bytes.
      with_features: False skips the features of `config.features`; None means the same as for the frames.
      views: returns the frames as views of the data instead of copies.
      with_sound: reads the sound too.
      name: the id of a video that has none.
      findings: updated with this example.

    Returns:
      The record; its duration is the number of frames / fps, to which Scenic clips predictions.

    Raises:
      ValueError: not such an example, or a key is missing; the message names the key and the option.
    """
    example = SequenceExample(data)
    fps = _fps(example, config)
    num_frames = _num_frames(example, config)
    duration_s = num_frames / fps
    texts, numbers = _texts(example, config)
    if config.labels == "clip":
        if not texts:
            raise ValueError(_no_labels(example, config))
        segments_s = np.tile(np.array([0.0, duration_s], np.float32), (len(texts), 1))
    else:
        segments_s = _segments_s(example, split, config, fps)
        if len(texts) == 1 and len(segments_s) > 1:  # highlight detection: one query for all
            texts, numbers = texts * len(segments_s), numbers * len(segments_s)
        if len(segments_s) and len(texts) != len(segments_s):
            if not texts:
                raise ValueError(_no_labels(example, config))
            raise ValueError(f"{len(segments_s)} segments, but {len(texts)} labels")
        if split == "train" and texts and not len(segments_s):
            raise ValueError(_no_segments(example.context, config))
    video_id = _video_id(example, config) or name
    if not video_id:
        raise ValueError(f"it has no id ({', '.join(config.video_id)}); set {_OPTION}.video_id")
    reasons = _unusable(segments_s, numbers)
    kept = [i for i in range(len(texts)) if i not in reasons]
    if findings is not None:
        for i, (kind, detail) in reasons.items():
            findings.problems.add(kind, f"{split}: {video_id}", f"segment {i}: {detail}")
        for number, text in zip(numbers, texts):
            if number >= 0:
                findings.names[number].add(text)
        findings.num_segments += len(segments_s)
        findings.num_texts += len(texts)
        findings.keys.update(example.context)
    return VideoRecord(
        video_id=video_id,
        duration_s=duration_s,
        split=split,
        segments_s=segments_s[kept if len(segments_s) else []],
        texts=[texts[i] for i in kept],
        attributes=[{} for _ in kept],
        fps=fps,
        frames=_frames(example, config, views) if with_frames and config.frames else [],
        features=_features(example, config)
        if (with_frames if with_features is None else with_features)
        else {},
        sound=_sound(example, config) if with_sound else None,
    )


def _fps(example: SequenceExample, config: MediaSequenceConfig) -> float:
    if config.fps:
        return config.fps
    fps = 0.0
    if "image/frame_rate" in example.context:
        rates = example.values("image/frame_rate")
        fps = float(rates[0]) if isinstance(rates, np.ndarray) and len(rates) == 1 else 0.0
    elif "image/timestamp" in example.lists:
        times = [_timestamp(step) for step in example.steps("image/timestamp")]
        if len(times) > 1 and times[-1] > times[0]:
            fps = (len(times) - 1) * _MICROSECONDS / (times[-1] - times[0])
    if not _LOWEST_FPS < fps < float("inf"):
        raise ValueError(
            "it has no frame rate (image/frame_rate, image/timestamp); set "
            f"{_OPTION}.fps (1 / secs_per_timestep of a Scenic config)"
        )
    return fps


def _num_frames(example: SequenceExample, config: MediaSequenceConfig) -> int:
    if config.num_frames in example.context:
        counts = _integers(example, config.num_frames).tolist()
        if len(counts) != 1 or counts[0] < 1:
            raise ValueError(f"{config.num_frames} is {counts}, not one number of frames")
        return counts[0]
    if config.frames in example.lists:
        count = example.num_steps(config.frames)
        if count:
            return count
        raise ValueError(f"{config.frames} is empty")
    raise ValueError(
        f"it has neither {config.num_frames!r} nor frames in {config.frames!r}; set {_OPTION}.num_frames or "
        f"{_OPTION}.frames (its context: {_listed(example.context)}; its lists: {_listed(example.lists)})"
    )


def _video_id(example: SequenceExample, config: MediaSequenceConfig) -> str:
    for key in config.video_id:
        if key in example.context:
            values = example.values(key)
            if len(values) != 1 or (isinstance(values, np.ndarray) and values.dtype != np.int64):
                raise ValueError(f"{key}: not one text or integer; set {_OPTION}.video_id to another key")
            return values[0].decode() if isinstance(values, list) else str(values[0])
    return ""


def _texts(example: SequenceExample, config: MediaSequenceConfig) -> tuple[list[str], list[int]]:
    """Returns labels in the order of the segments, and their class numbers ([] if the segments have none)."""
    number_key = config.class_index or f"{config.labels}/label/index"
    text_keys = (f"{config.labels}/label/text",) if config.labels == "clip" else ()
    text_keys = (config.texts,) if config.texts else (*text_keys, f"{config.labels}/label/string")
    text_key = next((key for key in text_keys if key in example.context), None)
    texts = [normal_text(text.decode()) for text in _byte_strings(example, text_key)] if text_key else []
    numbers = [int(n) for n in _integers(example, number_key)] if number_key in example.context else []
    if not config.classes_file:
        if numbers and not texts:
            raise ValueError(
                f"it has class numbers ({number_key}) and no names ({', '.join(text_keys)}); set "
                f"{_OPTION}.classes_file to a file with the names, or {_OPTION}.texts to their key"
            )
        return texts, numbers if len(numbers) == len(texts) else []
    classes = read_classes(config.classes_file)
    if numbers:
        last = config.first_class + len(classes) - 1
        for number in numbers:
            if number != -1 and not config.first_class <= number <= last:
                raise ValueError(
                    f"{number_key} is {number}, but {config.classes_file} names the classes {config.first_class} to "
                    f"{last} ({_OPTION}.first_class, {_OPTION}.classes_file)"
                )
        return ["" if n == -1 else classes[n - config.first_class] for n in numbers], numbers
    for text in texts:
        if text not in classes:
            raise ValueError(f"its label {text!r} is not a class of {config.classes_file}")
    return texts, []


def _segments_s(example: SequenceExample, split: str, config: MediaSequenceConfig, fps: float) -> np.ndarray:
    """Returns the segments, float32 [S, 2], in seconds after the first frame."""
    by_frame = (config.start_index, config.end_index)
    by_time = (config.start_timestamp, config.end_timestamp)
    for keys in (by_frame, by_time) if split == "train" else (by_time, by_frame):
        there = [key in example.context for key in keys]
        if not any(there):
            continue
        if not all(there):
            missing = keys[there.index(False)]
            option = ("start", "end")[there.index(False)] + ("_index" if keys is by_frame else "_timestamp")
            raise ValueError(f"it has {keys[there.index(True)]!r} and no {missing!r}; set {_OPTION}.{option}")
        starts, ends = (_integers(example, key).astype(np.float64) for key in keys)
        if len(starts) != len(ends):
            raise ValueError(f"{len(starts)} values of {keys[0]}, {len(ends)} of {keys[1]}")
        if not len(starts):
            continue
        if keys is by_frame:
            # A segment between two frames has its first frame (>= start) after its last one (<= end).
            between = starts == ends + 1
            starts, ends = np.where(between, ends, starts), np.where(between, starts, ends)
            return (np.stack([starts, ends], 1) / fps).astype(np.float32)
        return ((np.stack([starts, ends], 1) - _first_timestamp(example)) / _MICROSECONDS).astype(np.float32)
    return np.zeros((0, 2), np.float32)


def _first_timestamp(example: SequenceExample) -> int:
    """Returns the time of frame 0 in microseconds, on the clock of the segments' timestamps."""
    if "image/timestamp" not in example.lists:
        return 0
    first = next(example.steps("image/timestamp"), None)
    return 0 if first is None else _timestamp(first)


def _timestamp(step: Values) -> int:
    if isinstance(step, np.ndarray) and step.dtype == np.int64 and len(step):
        return int(step[0])
    raise ValueError("image/timestamp: not one number per frame")


def _unusable(segments_s: np.ndarray, numbers: list[int]) -> dict[int, tuple[str, str]]:
    """Returns (kind, detail) of the unusable segments by index; `segments_s` is float32 [S, 2]."""
    reasons: dict[int, tuple[str, str]] = {}
    for i, number in enumerate(numbers):
        if number == -1:  # Scenic's padding, which it ignores
            reasons[i] = ("segment without a class", "class number -1")
    for i, (start_s, end_s) in enumerate(segments_s):
        if end_s < start_s:
            reasons[i] = ("segment ends before it starts", f"{start_s:g} to {end_s:g} s")
        elif end_s < 0:
            reasons[i] = ("segment before the video", f"{start_s:g} to {end_s:g} s")
    return reasons


def _frames(example: SequenceExample, config: MediaSequenceConfig, views: bool) -> list[bytes | memoryview]:
    if config.frames not in example.lists:
        raise ValueError(
            f"it has no frames in {config.frames!r}; set {_OPTION}.frames to their feature list, or to '' if there are "
            f"features only (its lists: {_listed(example.lists)})"
        )
    frames: list[bytes | memoryview] = []
    for step in example.steps(config.frames, views):
        if isinstance(step, np.ndarray) or len(step) != 1:
            raise ValueError(f"{config.frames}: step {len(frames)} is not one encoded frame")
        frames.append(step[0])
    if not frames:
        raise ValueError(f"{config.frames} is empty")
    return frames


def _features(example: SequenceExample, config: MediaSequenceConfig) -> dict[str, np.ndarray]:
    features: dict[str, np.ndarray] = {}
    for modality, key in sorted(config.features.items()):
        if key not in example.lists:
            raise ValueError(
                f"it has no feature list {key!r}; set {_OPTION}.features.{modality} (its lists: "
                f"{_listed(example.lists)})"
            )
        rows = list(example.steps(key))
        if not all(isinstance(row, np.ndarray) and row.dtype == np.float32 and len(row) for row in rows):
            raise ValueError(f"{key}: not a list of floats in every step")
        if len({len(row) for row in rows}) != 1:
            raise ValueError(f"{key}: empty, or steps of different lengths")
        features[modality] = np.stack(rows).astype(np.float32)
    return features


def _sound(example: SequenceExample, config: MediaSequenceConfig) -> Sound | None:
    """Returns the sound, heard from second 0 on; None if the record has none."""
    if config.sound not in example.lists:
        return None
    rate = config.sound_rate
    if not rate:
        rates = example.values(_SOUND_RATE) if _SOUND_RATE in example.context else []
        if not isinstance(rates, np.ndarray) or len(rates) != 1 or not 1 <= rates[0] <= _HIGHEST_SOUND_RATE:
            raise ValueError(f"its sound has no rate ({_SOUND_RATE}); set {_OPTION}.sound_rate")
        rate = round(float(rates[0]))
    if _SOUND_CHANNELS in example.context and example.values(_SOUND_CHANNELS) not in (1, [1]):
        raise ValueError(f"its sound is not mono ({_SOUND_CHANNELS})")
    steps = list(example.steps(config.sound))
    if not all(isinstance(step, np.ndarray) and step.dtype == np.float32 for step in steps):
        raise ValueError(f"{config.sound}: not a list of floats in every step")
    samples = np.concatenate([np.zeros(0, np.float32), *steps])
    samples = np.rint(np.clip(np.nan_to_num(samples), -1.0, 1.0) * 32767).astype(np.int16)
    heard = np.array([[0.0, len(samples) / rate]] if len(samples) else [], np.float64).reshape(-1, 2)
    return Sound(samples, rate, heard)


def _integers(example: SequenceExample, key: str) -> np.ndarray:
    values = example.values(key)
    if not len(values):  # the type of a feature without values is unknown
        return np.zeros(0, np.int64)
    if not isinstance(values, np.ndarray) or values.dtype != np.int64:
        raise ValueError(f"{key}: not a list of integers")
    return values


def _byte_strings(example: SequenceExample, key: str) -> list[bytes]:
    values = example.values(key)
    if isinstance(values, np.ndarray) and values.size:
        raise ValueError(f"{key}: numbers where texts should be")
    return list(values)


def _no_labels(example: SequenceExample, config: MediaSequenceConfig) -> str:
    kind = config.labels
    keys = [config.texts or f"{kind}/label/string", config.class_index or f"{kind}/label/index"]
    return (
        f"it has no labels ({', '.join(keys)}); set {_OPTION}.texts, or {_OPTION}.class_index and "
        f"{_OPTION}.classes_file (its context: {_listed(example.context)})"
    )


def _no_segments(context: Collection[str], config: MediaSequenceConfig) -> str:
    keys = (config.start_index, config.end_index, config.start_timestamp, config.end_timestamp)
    return (
        f"there are labels and no segments ({', '.join(filter(None, keys))}); set {_OPTION}.start_index and "
        f".end_index, or {_OPTION}.labels = 'clip' if they are of whole videos (context: {_listed(context)})"
    )


def _listed(keys: Collection[str]) -> str:
    return ", ".join(sorted(keys)[:20]) or "nothing"


@functools.cache
def read_classes(file: str) -> tuple[str, ...]:
    """Reads the first column of a CSV file without header: class names in the order of their numbers.

    Raises:
      UserError: the file does not exist, or a name occurs twice.
    """
    try:
        with Path(file).open(encoding="utf-8", newline="") as opened:
            names = tuple(normal_text(row[0]) for row in csv.reader(opened) if row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{_OPTION}.classes_file = {file!r} cannot be read: {error}.") from error
    twice = [name for name, count in collections.Counter(names).items() if count > 1]
    if twice or not names:
        raise UserError(
            f"{_OPTION}.classes_file = {file!r} "
            + (f"names the class {twice[0]!r} twice." if twice else "is empty.")
        )
    return names


@dataclasses.dataclass(frozen=True, eq=False)
class MediaSequenceIndex(RecordIndex):
    """Locates and reads the records of a split.

    Attributes:
      config: the keys.
      findings: filled by `annotations`.
    """

    config: MediaSequenceConfig = dataclasses.field(default_factory=MediaSequenceConfig)
    findings: Findings = dataclasses.field(default_factory=Findings)

    @classmethod
    def _remedy(cls, file: Path) -> str:
        return f"If the shard was copied here, copy it again. Which keys are read: {_OPTION}, docs/mediasequence.md."

    def _parse(
        self,
        i: int,
        data: Buffer,
        with_frames: bool,
        with_features: bool | None,
        views: bool,
        with_sound: bool | None = None,
    ) -> VideoRecord:
        return parse_sequence_example(
            data,
            self.split,
            self.config,
            with_frames=with_frames,
            with_features=with_features,
            views=views,
            with_sound=bool(with_sound),
            name=f"{self.files[self.shards[i]].name}/{self._position_in_shard(i)}",
            # Each record counts once: only `annotations` reads neither frames nor features nor sound.
            findings=None if with_frames or with_features or with_sound else self.findings,
        )


class MediaSequenceShards:
    """Shards in the MediaSequence layout (a `Shards`).

    Unusable segments (without a class, …) are left out and reported on standard error, once per split.

    Args:
      location: folder, file or pattern, see `find_shards`.
      config: files, keys and their meaning.
      modalities: the modalities whose features are read.
      with_sound: whether the sound is read.

    Raises:
      UserError: there are no shards, one is damaged, or records lack what the config requires.
    """

    def __init__(
        self,
        location: str,
        config: MediaSequenceConfig,
        modalities: Collection[str] = (),
        with_sound: bool = False,
    ):
        features = {name: config.features.get(name, f"{name}/feature/floats") for name in modalities}
        self._location = location
        self._config = dataclasses.replace(config, features=features)
        files = find_shards(location, {split: getattr(config, split) for split in SPLITS})
        self._indices = {
            split: MediaSequenceIndex.from_files(split, shards, config=self._config)
            for split, shards in files.items()
        }
        self._records: dict[str, list[VideoRecord]] = {}
        self.splits = tuple(split for split in SPLITS if len(self._indices.get(split, ())))
        if not self.splits:
            raise UserError(f"config.data.dir = {location!r}: there is no record in its shards.")
        first = self.splits[0]
        index = self._indices[first]
        record = index.record(0, with_sound=with_sound)
        short_side = self._short_side(record, index.files[index.shards[0]])
        classes = list(read_classes(config.classes_file)) if config.classes_file else self._named_classes()
        self.metadata = ShardMetadata(
            name="mediasequence",
            fps=config.fps or float(np.median([record.fps for record in self.records(first)])),
            short_side=config.short_side or short_side,
            classes=classes,
            fingerprint=_fingerprint(self._indices, classes),
            features={name: rows.shape[1] for name, rows in record.features.items()},
            row_phase=0.0,  # rows are in step with the frames
            sound_rate=record.sound.rate if record.sound is not None else 0,
        )

    def index(self, split: str) -> MediaSequenceIndex:
        if split not in self._indices or not len(self._indices[split]):
            there = [name for name, index in self._indices.items() if len(index)]
            raise UserError(
                f"config.data.dir = {self._location!r}: there is no split {split!r} with videos in it; splits: "
                f"{', '.join(there)}. Name its files: --{_OPTION}.{split}=…"
            )
        return self._indices[split]

    def records(self, split: str) -> list[VideoRecord]:
        if split not in self._records:
            index = self.index(split)
            records = list(index.annotations())
            where = f"config.data.dir = {self._location!r}, {split}"
            if not index.findings.num_texts or (split == "train" and not index.findings.num_segments):
                raise UserError(
                    f"{where}: no labelled segment. {_no_segments(index.findings.keys, self._config)}."
                )
            if split != "train":
                _check_ids(records, where)
            if index.findings.problems.counts:
                show(f"{where}: left out\n{index.findings.problems.table()}", file=sys.stderr)
            self._records[split] = records
        return self._records[split]

    def _short_side(self, record: VideoRecord, file: Path) -> int:
        """Checks the frames of the first record and returns their shorter side; 0 without frames."""
        if not self._config.frames:
            return 0
        where = f"{file}: record 0"
        counted = round(record.duration_s * record.fps)
        if abs(counted - len(record.frames)) > 1:
            raise UserError(
                f"{where}: {self._config.num_frames} is {counted}, but {len(record.frames)} frames are in "
                f"{self._config.frames}. Segments would be at the wrong frames; if they count the stored frames, set "
                f"{_OPTION}.num_frames=''."
            )
        try:
            with Image.open(io.BytesIO(record.frames[0])) as image:
                kind, short_side = image.format, min(image.size)
        except UnidentifiedImageError as error:
            raise UserError(f"{where}: {self._config.frames} holds no encoded images.") from error
        if kind != "JPEG":
            raise UserError(f"{where}: the frames are {kind} images; only JPEG frames can be read.")
        return short_side

    def _named_classes(self) -> list[str]:
        """Returns the vocabulary if class numbers and names correspond one to one in all splits; else []."""
        names: dict[int, set[str]] = collections.defaultdict(set)
        num_texts = 0
        for split, index in self._indices.items():
            if len(index):
                num_texts += sum(len(record.texts) for record in self.records(split))
                for number, seen in index.findings.names.items():
                    names[number] |= seen
        classes = [next(iter(names[number])) for number in sorted(names)]
        one_to_one = all(len(seen) == 1 for seen in names.values()) and len(set(classes)) == len(classes)
        return classes if one_to_one and 1 < len(classes) < num_texts else []


def _check_ids(records: list[VideoRecord], where: str) -> None:
    counts = collections.Counter(record.video_id for record in records)
    video_id, count = counts.most_common(1)[0]
    if count > 1:
        raise UserError(
            f"{where}: {count} records have the video id {video_id!r}, so their predictions could not be told apart. "
            f"Set {_OPTION}.video_id to a key that differs, such as ('example_id',), or to () to number the records."
        )


def _fingerprint(indices: dict[str, MediaSequenceIndex], classes: list[str]) -> str:
    """Returns a hash of the shards' names and of the lengths of all their records."""
    digest = hashlib.sha256(json.dumps(classes).encode())
    for split, index in sorted(indices.items()):
        digest.update(json.dumps([split, [file.name for file in index.files]]).encode())
        digest.update(index.shards.astype("<i4").tobytes() + index.lengths.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
