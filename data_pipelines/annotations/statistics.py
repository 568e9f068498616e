"""Statistics of annotations: counts, lengths, and the pyramid that fits them."""

import math
from typing import Any

import numpy as np

from data_pipelines.annotations.notes import NUM_FRAMES, notes_on
from data_pipelines.annotations.parsed import ParsedAnnotations
from data_pipelines.annotations.split_names import SPLITS
from unloc_jax.localization.geometry import default_regression_ranges, ranges_from_lengths
from unloc_jax.queries import absent
from unloc_jax.records import VideoRecord

NUM_BINS = 10
_MOST_LEVELS = 8
# At least this share of the segments must fit below the last level of the default ranges.
_COVERED = 0.95


def statistics(parsed: ParsedAnnotations) -> dict[str, Any]:
    """Returns statistics of the annotations, ready for JSON.

    Returns:
      "videos", "segments": in the files, including unusable ones; "texts": distinct ones; "classes": 0 if the texts are
      queries; "usable": {"videos", "segments"}; "merged": segments that repeat another one by design, see
      ParsedAnnotations; "splits": {name: {"videos", "segments", "texts"}}, counted in the same way; "absent": queries
      that have no answer in their video; "texts_with_saliency"; "unknown_durations": videos of unknown length;
      "lengths": of "videos_s", "segments_s" and "segments_per_video", {"min", "median", "mean", "max"} or None;
      "relative_lengths": how many segments cover 0 to 10 %, 10 to 20 %, … of their video (upper ends included);
      "suggested": see `suggest_pyramid`, None without segments of known relative length; "notes": see `notes_on`.
    """
    records = [record for record in parsed.records if record.texts]
    segments_s = [np.diff(record.segments_s.astype(np.float64), axis=1)[:, 0] for record in records]
    relative = [
        np.minimum(lengths_s / record.duration_s, 1.0)
        for record, lengths_s in zip(records, segments_s)
        if record.duration_s
    ]
    of_all = _joined(relative)
    return {
        "videos": parsed.num_videos,
        "segments": parsed.num_segments,
        "texts": _num_texts(records),
        "classes": len(parsed.classes or ()),
        "usable": {
            "videos": sum(bool(record.texts or absent(record)) for record in parsed.records),
            "segments": sum(map(len, segments_s)),
        },
        "merged": parsed.num_merged,
        "splits": {
            split: {
                "videos": parsed.num_in_split[split][0],
                "segments": parsed.num_in_split[split][1],
                "texts": _num_texts([record for record in records if record.split == split]),
            }
            for split in SPLITS
            if split in parsed.num_in_split
        },
        "absent": sum(len(absent(record)) for record in parsed.records),
        "texts_with_saliency": sum(len(record.saliency) for record in records),
        "unknown_durations": sum(not record.duration_s for record in records),
        "lengths": {
            "videos_s": _summary(np.array([record.duration_s for record in records if record.duration_s])),
            "segments_s": _summary(_joined(segments_s)),
            "segments_per_video": _summary(np.array([len(lengths_s) for lengths_s in segments_s])),
        },
        # Bin n counts lengths above n/10 up to (n+1)/10: a segment that spans its video is in the last one.
        "relative_lengths": np.bincount(
            np.clip(np.ceil(of_all * NUM_BINS - 1e-6).astype(int) - 1, 0, NUM_BINS - 1), minlength=NUM_BINS
        ).tolist(),
        "suggested": suggest_pyramid(of_all, NUM_FRAMES) if len(of_all) else None,
        "notes": notes_on(parsed, of_all),
    }


def suggest_pyramid(relative_lengths: np.ndarray, num_frames: int) -> dict[str, Any]:
    """Suggests a pyramid for segments of these lengths.

    The number of levels is the lowest with which nearly all segments are below twice the last finite bound of the
    reference's ranges (0 to 4 grid units on the first level, doubling from level to level). The ranges then divide the
    segments evenly between the levels. Where there are too few distinct lengths for that many levels, there are fewer.

    Args:
      relative_lengths: float [n], n ≥ 1: length of each segment divided by that of its video.
      num_frames: T, frames sampled from a video.

    Returns:
      {"num_frames", "num_levels", "regression_ranges": [[low, high], …]} in grid units; the last high is None (open).
    """
    lengths = relative_lengths * (num_frames - 1)
    ranges = ranges_from_lengths(lengths, num_levels(lengths), merge=True)
    return {
        "num_frames": num_frames,
        "num_levels": len(ranges),
        "regression_ranges": [
            [round(low, 3), None if math.isinf(high) else round(high, 3)] for low, high in ranges
        ],
    }


def num_levels(lengths: np.ndarray) -> int:
    """Returns how many levels segments of lengths float [n] (n ≥ 1, in grid units) need: see `suggest_pyramid`."""
    longest = 0.75 * np.quantile(lengths, _COVERED)  # three quarters of a length, as in ranges_from_lengths
    levels = next(
        (
            levels
            for levels in range(1, _MOST_LEVELS)
            if longest <= 2 * (default_regression_ranges(levels)[-1][0] or 2.0)
        ),
        _MOST_LEVELS,
    )
    return min(levels, len(np.unique(np.round(lengths))) + 1)


def _num_texts(records: list[VideoRecord]) -> int:
    return len({text for record in records for text in record.texts})


def _joined(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0), *arrays])


def _summary(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    numbers = {
        "min": values.min(),
        "median": np.median(values),
        "mean": values.mean(),
        "max": values.max(),
    }
    return {name: round(float(number), 3) for name, number in numbers.items()}
