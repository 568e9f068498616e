"""Converts a record to one row of a batch: its frames, texts and segments. NumPy only.

Frames, features and labels are sampled with the same `Window`, so they cannot disagree.
"""

import dataclasses
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from data_pipelines.reading.flipped_texts import mirror_text
from unloc_jax.config import DataConfig
from unloc_jax.queries import absent
from unloc_jax.records import VideoRecord
from unloc_jax.sampling import (
    Timeline,
    Window,
    cut_segments,
    features_at,
    random_start,
    rows_timeline,
    whole_video,
    window_at,
)
from unloc_jax.sound_windows import sound_around
from unloc_jax.text import CLIP_TOKENS, Tokens

# The modality that hears, see `unloc_jax.config.towers`.
SOUND = "audio"


class Draws(NamedTuple):
    """The random numbers of a training example, from [0, 1), except for those of its colours."""

    mirror: float
    texts: float
    top: float
    left: float
    prompt: float
    window: float
    scale_y: float
    scale_x: float
    speed: float


@dataclasses.dataclass(frozen=True)
class ExampleSpec:
    """Settings of the examples of a dataset.

    Attributes:
      config: sampling, crop and padding sizes.
      max_tokens: L.
      classes: the vocabulary that `segment_text` indexes; None if every video has its own queries.
      with_frames: whether the model reads frames.
      features: D of the modalities that the model reads as features, by name.
      short_side: pixels to which frames are scaled before cropping; 0 = they are stored at the right size.
      row_phase: see `data_pipelines.reading.shards.ShardMetadata`.
      tokens: makes the tokens of queries.
      sound_window_s: seconds of sound around each place; 0.0 = the model does not hear.
      sound_rate: samples per second of that sound.
    """

    config: DataConfig
    max_tokens: int
    classes: list[str] | None
    with_frames: bool = True
    features: dict[str, int] = dataclasses.field(default_factory=dict)
    short_side: int = 0
    row_phase: float = 0.5
    tokens: Tokens = CLIP_TOKENS
    sound_window_s: float = 0.0
    sound_rate: int = 0

    @property
    def with_sound(self) -> bool:
        """Whether the model hears."""
        return self.sound_window_s > 0.0


@dataclasses.dataclass(frozen=True)
class Example:
    """One row of a batch before its frames are decoded.

    Attributes:
      fields: arrays of `Batch` without the batch axis, frames and features.
      features: by modality, float32 [T, D]; of "audio" the samples around each place, int16 [T, C].
      input_masks: bool [T] by modality, see `Batch`.
      encoded: T JPEGs; [] if the model reads no frames.
      region: int32 [4]: top, left, height and width of the crop in stored pixels.
      mirrored: whether the frames are to be flipped (the texts already are).
    """

    fields: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    input_masks: dict[str, np.ndarray]
    encoded: list[bytes]
    region: np.ndarray
    mirrored: bool


def make_example(
    record: VideoRecord, spec: ExampleSpec, draws: Draws | None, start: int = 0, along: float = 0.5
) -> Example:
    """Plans one example.

    Args:
      record: with its frames and features.
      spec: settings of the example.
      draws: random numbers of a training example; None = evaluation, which is deterministic.
      start: in evaluation, the stored frame (or row) at which the window begins.
      along: in evaluation, the position of the crop along the longer side: 0 and 1 are its ends.

    Raises:
      ValueError: the record lacks required frames or features, or they have another size.
    """
    config = spec.config
    timelines = {name: _rows_of(record, name, spec) for name in spec.features}
    window = _window(main_timeline(record, spec), config, draws, start)
    mirrored = draws is not None and config.mirror and draws.mirror < 0.5
    fields = {
        "frame_mask": window.mask,
        "span_s": window.span_s,
        **_labels(record, window, spec, mirrored, draws),
    }
    features = {
        name: features_at(record.features[name], timeline, window.times_s)
        for name, timeline in timelines.items()
    }
    masks: dict[str, np.ndarray] = {}
    if spec.with_sound:
        features[SOUND], there = sound_around(
            record.sound, window.times_s, spec.sound_window_s, spec.sound_rate
        )
        masks[SOUND] = there & window.mask
    if not spec.with_frames:
        return Example(fields, features, masks, [], np.zeros(4, np.int32), mirrored)
    encoded = [bytes(record.frames[i]) for i in window.indices.tolist()]
    return Example(fields, features, masks, encoded, _region(encoded, spec, draws, along), mirrored)


def main_timeline(record: VideoRecord, spec: ExampleSpec) -> Timeline:
    """Returns the timeline that windows count in.

    These are the stored frames or, without frames, the finest features or, without these, the times at which frames
    would be stored.
    """
    if spec.with_frames:
        if not record.frames:
            raise ValueError("it has no frames")
        return Timeline(len(record.frames), 0.0, 1 / record.fps)
    timelines = [_rows_of(record, name, spec) for name in spec.features]
    if not timelines:
        return Timeline(num_places(record), 0.0, 1 / record.fps)
    return max(timelines, key=lambda timeline: timeline.count)


def num_places(record: VideoRecord) -> int:
    """Returns the number of stored frames that a video has by its length, at least 1."""
    return max(1, round(record.duration_s * record.fps))


def empty_example(spec: ExampleSpec) -> Example:
    """Returns a placeholder for an unreadable record: no real frame, text or segment."""
    config = spec.config
    times_s = np.zeros(config.num_frames)
    silent = sound_around(None, times_s, spec.sound_window_s, spec.sound_rate) if spec.with_sound else None
    size = config.crop_size
    picture = io.BytesIO()
    Image.new("RGB", (size, size)).save(picture, "JPEG")
    queries = 0 if spec.classes is not None else config.max_queries
    return Example(
        fields={
            "frame_mask": np.zeros(config.num_frames, bool),
            "span_s": np.zeros(2, np.float32),
            "text_tokens": np.zeros((queries, spec.max_tokens), np.int32),
            "text_mask": np.zeros(queries, bool),
            "segments": np.zeros((config.max_segments, 2), np.float32),
            "segment_text": np.full(config.max_segments, -1, np.int32),
        },
        features={
            name: np.zeros((config.num_frames, width), np.float32) for name, width in spec.features.items()
        }
        | ({SOUND: silent[0]} if silent else {}),
        input_masks={SOUND: silent[1]} if silent else {},
        encoded=[picture.getvalue()] * config.num_frames if spec.with_frames else [],
        region=np.array([0, 0, size, size], np.int32),
        mirrored=False,
    )


def _rows_of(record: VideoRecord, name: str, spec: ExampleSpec) -> Timeline:
    """Returns the times of a modality's rows of features."""
    if name not in record.features:
        there = ", ".join(sorted(record.features)) or "none"
        raise ValueError(f"it has no features {name!r} (features in it: {there})")
    (rows, found), width = record.features[name].shape, spec.features[name]
    if found != width:
        raise ValueError(
            f"its features {name!r} have {found} numbers per row; config.model.modalities.{name}.feature_dim = {width}"
        )
    return rows_timeline(rows, record.duration_s, spec.row_phase, record.feature_times_s.get(name))


def _window(timeline: Timeline, config: DataConfig, draws: Draws | None, start: int) -> Window:
    if config.sampling == "linspace":
        return whole_video(timeline, config.num_frames)
    stride: float = config.window_stride
    if draws is not None:
        if config.augmentation.speed_jitter:
            low, high = config.augmentation.speed_jitter
            stride *= low + (high - low) * draws.speed
        start = random_start(timeline.count, config.num_frames, stride, draws.window)
    return window_at(timeline, config.num_frames, stride, start)


def _labels(
    record: VideoRecord, window: Window, spec: ExampleSpec, mirrored: bool, draws: Draws | None
) -> dict[str, np.ndarray]:
    """Returns the padded texts and segments, as fields of `Batch` without the batch axis."""
    config = spec.config
    grid, shown = cut_segments(record.segments_s.reshape(-1, 2), window)
    own = lambda texts: [mirror_text(text) for text in texts] if mirrored else list(texts)
    names = own(record.texts)
    if spec.classes is None:
        elsewhere = own(text for text, _ in absent(record)) if config.absent_queries else []
        queries = list(dict.fromkeys([*names, *elsewhere]))
        # If there are more queries than fit, takes a random cyclic run of them, a new one in every epoch.
        if len(queries) > config.max_queries:
            inside = {names[i] for i in np.flatnonzero(shown)} if config.windowed else set()
            queries = _some(queries, inside, config.max_queries, draws.texts if draws else 0.0)
        text_tokens = np.zeros((config.max_queries, spec.max_tokens), np.int32)
        template = config.prompts[int(draws.prompt * len(config.prompts)) if draws else 0]
        filled = [template.replace("{}", query) for query in queries]
        text_tokens[: len(queries)] = spec.tokens(filled, spec.max_tokens)
    else:
        queries = spec.classes
        text_tokens = np.zeros((0, spec.max_tokens), np.int32)
    number = {query: i for i, query in enumerate(queries)}
    kept = [i for i in np.flatnonzero(shown).tolist() if names[i] in number]
    if len(kept) > config.max_segments:
        kept = _cyclic(kept, draws.texts if draws else 0.0)[: config.max_segments]
    segments = np.zeros((config.max_segments, 2), np.float32)
    segment_text = np.full((config.max_segments,), -1, np.int32)
    segments[: len(kept)] = grid[kept]
    segment_text[: len(kept)] = [number[names[i]] for i in kept]
    # A query whose segment was dropped for lack of room would be trained as occurring nowhere, as would one of a record
    # without segments: both are masked. One whose segments are all outside the window really does not occur: it stays,
    # and so does one without an answer in its video.
    text_mask = np.isin(np.arange(len(text_tokens)), segment_text)
    if spec.classes is None and not len(record.segments_s):
        text_mask[: len(queries)] |= np.array([query in elsewhere for query in queries], bool)
    elif spec.classes is None:
        inside = {names[i] for i in np.flatnonzero(shown)}
        text_mask[: len(queries)] |= [query not in inside for query in queries]
    return {
        "text_tokens": text_tokens,
        "text_mask": text_mask,
        "segments": segments,
        "segment_text": segment_text,
    }


def _some(queries: list[str], inside: set[str], count: int, uniform: float) -> list[str]:
    """Returns count of more queries; at least half of them, if there are so many, happen inside the window.

    A window of a film shows few of its hundreds of queries: of a run of all, hardly any would have a moment in it.
    """
    shown = [query for query in queries if query in inside]
    others = [query for query in queries if query not in inside]
    kept = _cyclic(shown, uniform)[: max((count + 1) // 2, count - len(others))] if shown else []
    return kept + _cyclic(others, uniform)[: count - len(kept)]


def _cyclic(items: list, uniform: float) -> list:
    first = int(uniform * len(items))
    return items[first:] + items[:first]


def _region(encoded: list[bytes], spec: ExampleSpec, draws: Draws | None, along: float) -> np.ndarray:
    """Returns the region that becomes the crop, int32 [4]: top, left, height, width in pixels of the stored frames.

    Scaling a frame and cropping it equals cropping a part of it and scaling that; the part is smaller and faster to
    decode. Without draws the region is central, as in `unloc_jax.sampling.center_crop`, or elsewhere along the longer
    side.
    """
    config = spec.config
    for place, jpeg in enumerate(encoded):
        # The cheapest test for truncated pictures: a JPEG begins and ends with markers.
        if jpeg[:2] != b"\xff\xd8" or jpeg[-64:].rstrip(b"\0")[-2:] != b"\xff\xd9":
            raise ValueError(f"the frame at place {place} of {len(encoded)} is not a whole JPEG")
    try:
        with Image.open(io.BytesIO(encoded[0])) as picture:
            width, height = picture.size
    except (OSError, SyntaxError) as error:  # Pillow raises these for pictures that it cannot read
        raise ValueError(f"its first frame cannot be read: {error}") from error
    stored = np.array([height, width])
    scale = np.ones(2)
    if spec.short_side:
        scale *= spec.short_side / stored.min()
    if draws is not None and config.augmentation.scale_jitter:
        low, high = config.augmentation.scale_jitter
        scale *= low + (high - low) * np.array([draws.scale_y, draws.scale_x])
    elif (np.rint(config.crop_size / scale) > stored).any():
        raise ValueError(f"its frames of {height}×{width} pixels are smaller than config.data.crop_size")
    size = np.minimum(np.rint(config.crop_size / scale).astype(int), stored)
    room = stored - size
    if draws is None:
        corner = room // 2
        if along != 0.5:
            longer = int(width > height)
            corner[longer] = round(along * room[longer])
    else:
        corner = (np.array([draws.top, draws.left]) * (room + 1)).astype(int)
    return np.concatenate([corner, size]).astype(np.int32)
