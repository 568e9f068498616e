"""Action segmentation: 50Salads, GTEA, Breakfast, JIGSAWS as in MS-TCN or TCN, and COIN's frame accuracy."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import videos_of_both, warn_of
from unloc_jax.metrics.protocols.annotated import Annotated, path_of
from unloc_jax.metrics.protocols.coin_files import read_steps
from unloc_jax.metrics.protocols.frame_files import FrameLabels, read_frame_labels
from unloc_jax.metrics.protocols.json_files import is_database
from unloc_jax.metrics.segmentation import (
    Frames,
    per_class_average_precision,
    segmentation_scores,
)
from unloc_jax.names import normal_text

BACKGROUND = ("0", "background")


def evaluate_segmentation(
    ground_truth: Path | Annotated,
    predictions: Path,
    *,
    variant: str = "ms-tcn",
    background: str | None = None,
) -> dict[str, Any]:
    """Returns frame accuracy, edit score, F1@{10, 25, 50} and, if there are scores, mAP over classes; in percent.

    Args:
      ground_truth, predictions: see `frame_files`; the ground truth may also be COIN's own file, or
        `Annotated` classes.
      variant: "ms-tcn": all scores except the edit score are counted over all videos together; "tcn": the mean of
        each video's score.
      background: the label that is not an action, or "none"; by default 0 or "background".

    If a prediction has scores but no labels, a frame's label is 1 + the column of its highest score if that is
    above 0, otherwise background, 0, as UnLoc predicts COIN. Columns are the labels 1 … C.

    Returns:
      As `segmentation_scores`; "mAP" and "per_class_AP" if all predictions have scores; "videos", "frames".

    Videos without a prediction, and predicted videos without ground truth, are left out, with a warning.
    """
    if variant not in ("ms-tcn", "tcn"):
        raise UserError(f"segmentation has the variants ms-tcn and tcn, not {variant!r}")
    found = read_frame_labels(predictions, predictions=True)
    truth = (
        read_steps(ground_truth, found)
        if isinstance(ground_truth, Annotated) or is_database(ground_truth)
        else read_frame_labels(ground_truth, predictions=False)
    )
    path = path_of(ground_truth)
    both = videos_of_both(truth, found, path, predictions, "left out")

    numbers: dict[str, int] = {}
    name_of = functools.cache(lambda label: normal_text(str(label)))
    number = lambda labels: np.array(
        [numbers.setdefault(name_of(label), len(numbers)) for label in labels], np.int64
    )
    labels = [truth[video].labels or [] for video in both]
    predicted = [_labels(found[video]) for video in both]
    different = [video for video, a, b in zip(both, labels, predicted) if len(a) != len(b)]
    if different:
        first = both.index(different[0])
        raise UserError(
            f"{predictions}: {len(different)} of {len(both)} videos have another number of frames than in"
            f" {path}; first: {different[0]!r}, {len(predicted[first])} instead of {len(labels[first])}"
        )
    frames = Frames(
        np.concatenate([number(of_video) for of_video in labels]),
        np.concatenate([number(of_video) for of_video in predicted]),
        np.array([len(of_video) for of_video in labels]),
    )
    known = {name_of(label) for of_video in labels for label in of_video}
    unknown = [str(label) for of_video in predicted for label in of_video if name_of(label) not in known]
    if len(unknown) == len(frames.labels):
        raise UserError(
            f"{predictions}: none of its labels occurs in {path}: for example {unknown[0]!r} does not, but"
            f" {sorted(known)[0]!r} does"
        )
    warn_of(
        sorted(set(unknown)), len(numbers), f"labels ({len(unknown)} predicted frames) have no ground truth"
    )
    name = background or next((name for name in BACKGROUND if name in numbers), "none")
    if name not in (*numbers, *BACKGROUND, "none"):
        raise UserError(
            f'background: no frame has the label "{name}"; there are {", ".join(list(numbers)[:10])}'
        )
    return {
        **segmentation_scores(frames, numbers.get(name), pooled=variant == "ms-tcn"),
        **_class_scores(labels, [found[video].scores for video in both]),
        "background": None if name == "none" else name,
        "videos": len(both),
        "frames": len(frames.labels),
    }


def _labels(video: FrameLabels) -> list[int] | list[str]:
    if video.labels is not None:
        return video.labels
    assert video.scores is not None, "read_frame_labels refuses videos with neither"
    return np.where(video.scores.max(axis=1) > 0, 1 + video.scores.argmax(axis=1), 0).tolist()


def _class_scores(labels: list[list[int] | list[str]], scores: list[np.ndarray | None]) -> dict[str, Any]:
    """Returns mAP over classes from scores float64 [T, C] per video; {} if one has none."""
    given = [of_video for of_video in scores if of_video is not None]
    if len(given) < len(scores):
        return {}
    if len({of_video.shape[1] for of_video in given}) > 1:
        raise UserError("the predictions' scores are for different numbers of classes")
    every = [label for of_video in labels for label in of_video]
    joined = np.concatenate(given)
    if not all(isinstance(label, int) for label in every) or len(every) != len(joined):
        raise UserError(
            "scores need labels that are whole numbers, 1 for the first column, and one row per frame"
        )
    is_class = np.array(every)[:, None] == np.arange(1, joined.shape[1] + 1)
    per_class = per_class_average_precision(joined, is_class)
    mean = float(np.nanmean(per_class)) if is_class.any() else np.nan
    return {"mAP": mean, "per_class_AP": {str(1 + c): float(ap) for c, ap in enumerate(per_class)}}
