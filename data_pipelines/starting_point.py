"""The commands with which `unloc data check` lets a user begin: build, train and evaluate a small model from scratch.

configs/small.py, and for sound configs/sound.py, hold what all small datasets need. Here is what depends on the data:
how often and in what windows the model looks or listens, what the pyramid's levels cover, how long to train.
"""

import dataclasses
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.statistics import num_levels
from data_pipelines.builders.feature_files import FeatureSource, find_shapes, most_common_width
from data_pipelines.reading.flipped_texts import without_mirror_image
from unloc_jax.records import VideoRecord
from unloc_jax.text import num_tokens

# Samples that a short segment (the 10th percentile) is seen in.
_SAMPLES = 6
_NUM_FRAMES = (64, 128, 256)
_NUM_ROWS = (128, 256, 512)
_SAMPLES_HEARD = 3  # each hears what is around it
_EPOCHS, _EPOCHS_OF_SOUND = 150, 50  # configs/sound.py trains with Muon
_STEPS, _STEPS_OF_SOUND = (1500, 6000), (1000, 4000)
_FPS = (0.2, 30.0)  # of stored frames
_BATCH_SIZE, _MAX_TOKENS = 8, 16  # of configs/small.py
_CLIPS_TOKENS = 77
_MOST_TEXTS = 2000  # whose tokens are counted
_LEAST_WINDOW_S = 0.5  # of sound around a place
_SHORT_SIDE = 72  # of stored frames; crops of 64 are cut from them
_WHOLE = 0.95  # of a video


@dataclasses.dataclass(frozen=True)
class StartingPoint:
    """What a dataset suggests.

    Attributes:
      task: argument of the config.
      fps: of the build; None for features.
      hears: whether the model reads the sound instead of frames.
      settings: of the config, by dotted name.
      split: to evaluate on.
    """

    task: str
    fps: float | None
    settings: dict[str, Any]
    split: str
    hears: bool = False


def starting_point(
    parsed: ParsedAnnotations, sources: Sequence[FeatureSource] = (), hears: bool = False
) -> StartingPoint | None:
    """Chooses a task and settings for annotations with known lengths.

    Args:
      parsed: usable records.
      sources: features to train on; without any the model sees frames, or hears.
      hears: whether it hears the videos' sound instead.

    Returns:
      None if there is nothing to localise: no training segments of videos of known length, or trimmed clips.

    Raises:
      UserError: no video has usable features of a source, see `find_shapes`.
    """
    records = [r for r in parsed.records if r.split == "train" and r.duration_s and len(r.segments_s)]
    if not records:
        return None
    lengths_s = np.concatenate([np.diff(record.segments_s, axis=1)[:, 0] for record in records])
    durations_s = np.array([record.duration_s for record in records])
    if (lengths_s / durations_s.repeat([len(r.segments_s) for r in records]) >= _WHOLE).all():
        return None
    hears = hears and not sources
    rate = (_SAMPLES_HEARD if hears else _SAMPLES) / float(np.quantile(lengths_s, 0.1))
    settings: dict[str, Any] = {}
    if sources:
        rows_per_s, settings["model.modalities"] = _features(records, sources)
        stride, fps = max(1, round(rows_per_s / rate)), None
        rate, choices = rows_per_s / stride, _NUM_ROWS
    else:
        stride, fps = 2, min(max(_FPS[0], round(2 * rate, 1)), _FPS[1])
        rate, choices = fps / stride, _NUM_ROWS if hears else _NUM_FRAMES
    if hears:
        # Twice the distance of two places, so that no sound falls between them.
        settings["model.audio.window_s"] = round(max(_LEAST_WINDOW_S, 2 / rate), 2)
    elif not sources:
        settings["data.mirror"] = parsed.classes is None or not without_mirror_image(parsed.classes)
    # The window shows long segments as a whole, and is not much longer than the videos.
    needed = 1.3 * float(np.quantile(lengths_s, 0.95)) * rate
    num_frames = next((choice for choice in choices if choice >= needed), choices[-1])
    longest = 16 * math.ceil(float(durations_s.max()) * rate / 16)
    num_frames = max(16, min(num_frames, longest))
    settings |= {"data.num_frames": num_frames, "data.window_stride": stride}
    settings["model.pyramid.num_levels"] = num_levels(np.minimum(lengths_s * rate, num_frames - 1))
    settings["data.max_segments"] = _most(max(len(record.segments_s) for record in records), 64)
    queries = max(len(set(record.texts)) for record in records)
    if parsed.classes is None:
        settings["data.max_queries"] = _most(queries, 8)
    if (longest_text := _most_tokens(records)) > _MAX_TOKENS:
        settings["model.text.max_tokens"] = min(8 * math.ceil(longest_text / 8), _CLIPS_TOKENS)
    windows = float(np.maximum(durations_s * rate / num_frames, 1.0).sum())
    epochs, bounds = (_EPOCHS_OF_SOUND, _STEPS_OF_SOUND) if hears else (_EPOCHS, _STEPS)
    settings["train.steps"] = int(np.clip(50 * round(epochs * windows / _BATCH_SIZE / 50), *bounds))
    held_out = [name for name in ("validation", "test") if any(r.split == name for r in parsed.records)]
    task = _task(parsed, lengths_s.sum() / durations_s.sum())
    return StartingPoint(task, fps, settings, (held_out or ["train"])[0], hears)


def commands(
    point: StartingPoint,
    dataset: str,
    annotations: Sequence[Path],
    videos: Path | None,
    features: Sequence[str] = (),
    features_axis: Sequence[str] = (),
    sound_track: int | None = None,
) -> list[str]:
    """Returns the command lines, in order, as a shell reads them.

    Args:
      point: what to write.
      dataset, annotations, videos, features, features_axis, sound_track: as given to `unloc data check`.
    """
    build = ["unloc", "data", "build", "--dataset", dataset, "--annotations", *map(str, annotations)]
    if features:
        build += ["--no-frames", *(word for text in features for word in ("--features", text))]
        build += [word for axis in features_axis for word in ("--features-axis", axis)]
    else:
        build += ["--videos", str(videos or "VIDEOS"), "--fps", f"{point.fps:g}"]
        build += ["--no-frames", "--audio"] if point.hears else ["--short-side", str(_SHORT_SIDE)]
        build += [] if sound_track is None else ["--audio-track", str(sound_track)]
    config = "sound" if point.hears else "small"
    train = ["unloc", "train", f"--config=configs/{config}.py:{point.task}", "--config.data.dir=shards"]
    train += ["--workdir=run", *(f"--config.{name}={value}" for name, value in point.settings.items())]
    evaluate = ["unloc", "evaluate", "--checkpoint=run", f"--split={point.split}"]
    return [" ".join(map(_quoted, words)) for words in ([*build, "--out", "shards"], train, evaluate)]


def _quoted(word: str) -> str:
    """Quotes a word for a shell, in double quotes if it is a Python literal with single ones."""
    return f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word)


def _task(parsed: ParsedAnnotations, covered: float) -> str:
    """Chooses a task; covered: the share of the videos that segments fill."""
    if parsed.classes is None:
        return "moment_retrieval"
    return "action_segmentation" if covered >= _WHOLE else "temporal_action_localization"


def _features(records: list[VideoRecord], sources: Sequence[FeatureSource]) -> tuple[float, dict[str, Any]]:
    """Returns rows per second of the first source (a median of some videos), and model.modalities."""
    duration_s = {record.video_id: record.duration_s for record in records}
    shapes = {source.name: find_shapes(source, list(duration_s)) for source in sources}
    modalities = {
        name: {"encoder": "features", "feature_dim": most_common_width(of)} for name, of in shapes.items()
    }
    rates = [rows / duration_s[video_id] for video_id, (rows, _) in shapes[sources[0].name]]
    return float(np.median(rates)), modalities


def _most_tokens(records: list[VideoRecord]) -> int:
    texts = dict.fromkeys(text for record in records for text in record.texts)
    return max(map(num_tokens, list(texts)[:_MOST_TEXTS]))


def _most(number: int, bound: int) -> int:
    return min(max(number, 1), bound)
