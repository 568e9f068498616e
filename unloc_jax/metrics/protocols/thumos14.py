"""Temporal action localisation on THUMOS14: by its own devkit's rules, or by ActivityNet's."""

import collections
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import warn, warn_of_no_hit
from unloc_jax.metrics.detection import THUMOS14_TIOU, Predictions
from unloc_jax.metrics.protocols.action_files import (
    AMBIGUOUS,
    Annotations,
    Members,
    database_members,
    read_annotations,
    read_results,
)
from unloc_jax.metrics.protocols.activitynet import (
    WITHOUT_DUPLICATES,
    by_label,
    counts,
    detection_metrics,
    rounded_thresholds,
)
from unloc_jax.metrics.protocols.annotated import Annotated
from unloc_jax.metrics.protocols.json_files import read_members, shown, text_lines
from unloc_jax.metrics.thresholds import thresholds_of
from unloc_jax.metrics.thumos14 import DEVKIT_TIOU, devkit_map

# Of the 101 classes, those with temporal annotations: detclasslist.txt of the devkit.
CLASS_IDS = {
    7: "BaseballPitch",
    9: "BasketballDunk",
    12: "Billiards",
    21: "CleanAndJerk",
    22: "CliffDiving",
    23: "CricketBowling",
    24: "CricketShot",
    26: "Diving",
    31: "FrisbeeCatch",
    33: "GolfSwing",
    36: "HammerThrow",
    40: "HighJump",
    45: "JavelinThrow",
    51: "LongJump",
    68: "PoleVault",
    79: "Shotput",
    85: "SoccerPenalty",
    92: "TennisSwing",
    93: "ThrowDiscus",
    97: "VolleyballSpiking",
}


def evaluate_thumos14(
    ground_truth: Path | Annotated,
    predictions: Path,
    *,
    variant: str = "activitynet",
    subset: str = "test",
    blocked_videos: Path | None = None,
    tiou: str | None = None,
) -> dict[str, Any]:
    """Evaluates detections on THUMOS14, in percent.

    Args:
      ground_truth: JSON like ActivityNet's, whose ambiguous regions are segments with the label "Ambiguous" or
        a member {"ambiguous": {VIDEO: [[start_s, end_s], …]}}; or the devkit's folder of CLASS_SUBSET.txt; or
        `Annotated` classes.
      predictions: JSON like ActivityNet's; or the devkit's text file (.txt): video, start, end, class id, score.
      variant: "activitynet", tIoU 0.3:0.1:0.7; "opentad" or "actionformer", by their rules; or "devkit", tIoU
        0.1:0.1:0.7 with ambiguous regions (`devkit_map`), whose "average_mAP_0.3_0.7" is over the upper five.
      subset: of the ground truth, in any case.
      blocked_videos: JSON list of video ids to leave out everywhere.
      tiou: thresholds, as of `evaluate_activitynet`; None: those of the variant. The devkit's are fixed.

    Returns:
      As `evaluate_activitynet`.
    """
    if variant not in ("activitynet", "devkit", *WITHOUT_DUPLICATES):
        raise UserError(
            f"thumos14 has the variants activitynet, opentad, actionformer and devkit, not {variant!r}"
        )
    if variant == "devkit" and tiou is not None:
        raise UserError(f"--tiou={tiou}: the thresholds of --variant devkit are fixed")
    thresholds = thresholds_of(tiou, THUMOS14_TIOU)
    annotations = read_annotations(
        ground_truth,
        subset,
        blocked_videos,
        annotation_members(ground_truth),
    )
    found = read_results(predictions, annotations, members=detection_members(predictions))
    if variant == "devkit":
        return _devkit(annotations, found)
    if len(annotations.ambiguous.class_index):
        warn(
            f"{len(annotations.ambiguous.class_index)} ambiguous regions are left alone: detections there are"
            f" false positives, except with --variant devkit"
        )
    if variant == "opentad":
        thresholds = np.round(thresholds, 2)
    return detection_metrics(annotations, found, thresholds, variant)


def _devkit(annotations: Annotations, found: Predictions) -> dict[str, Any]:
    names = list(annotations.videos)
    num_videos = 1 + int(max(len(names) - 1, found.video_index.max(initial=0)))
    # Equal scores rank in the order of the videos' names; unknown videos are false positives wherever they are.
    by_name = np.arange(num_videos)
    by_name[np.array(sorted(range(len(names)), key=names.__getitem__))] = np.arange(len(names))
    renumbered = lambda rows: rows._replace(video_index=by_name[rows.video_index])
    result = devkit_map(
        renumbered(annotations.truth), renumbered(found), renumbered(annotations.ambiguous), DEVKIT_TIOU
    )
    if result["tied_predictions"]:
        warn(
            f"{result['tied_predictions']} of {len(found.score)} predictions share their score with another one"
            f" of their class: they are in the order of the videos' names, then of the file, as in the devkit"
        )
    if not len(annotations.ambiguous.class_index):
        warn(
            f"{annotations.path} has no ambiguous regions: detections there are false positives, unlike the devkit's"
        )
    if not result["average_mAP"]:
        warn_of_no_hit(found.segments_s, annotations.truth.segments_s)
    metrics = {name: value for name, value in result.items() if name.startswith("mAP@")}
    upper = [metrics[f"mAP@{threshold:.2f}"] for threshold in DEVKIT_TIOU if threshold >= 0.3]
    return {
        "average_mAP": result["average_mAP"],
        "average_mAP_0.3_0.7": float(np.mean(upper)),
        **metrics,
        "per_class_AP": by_label(annotations, result["per_class_AP"]),
        **rounded_thresholds(np.array(DEVKIT_TIOU)),
        **counts(annotations, annotations.truth, found),
        "ambiguous_regions": len(annotations.ambiguous.class_index),
    }


def annotation_members(ground_truth: Path | Annotated) -> Members:
    """Yields the ground truth like `action_files.database_members`, also from the devkit's folder."""
    if isinstance(ground_truth, Path) and ground_truth.is_dir():
        return devkit_annotations(ground_truth)
    return database_members(ground_truth)


def detection_members(predictions: Path) -> Members:
    """Yields the predictions like `json_files.read_members(path, "results")`, also from the devkit's text."""
    return (
        devkit_detections(predictions)
        if predictions.suffix == ".txt"
        else read_members(predictions, "results")
    )


def devkit_annotations(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Reads CLASS_SUBSET.txt files of lines "video start end" (s), as members of a database."""
    videos: dict[tuple[str, str], list[dict[str, Any]]] = collections.defaultdict(list)
    names = [*CLASS_IDS.values(), AMBIGUOUS]
    for name in names:
        for path in sorted(folder.glob(f"{name}_*.txt")):
            for video, start, end in _columns(path, (str, float, float)):
                videos[path.stem.removeprefix(f"{name}_"), video].append(
                    {"segment": [start, end], "label": name}
                )
    if not videos:
        raise UserError(f"{folder}: no files like {names[0]}_test.txt in it")
    for (subset, video), rows in videos.items():
        yield "database", video, {"subset": subset, "annotations": rows}


def devkit_detections(path: Path) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Reads lines "video start end class-id score" (s), as members of results."""
    videos: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
    for video, start, end, number, score in _columns(path, (str, float, float, int, float)):
        label = CLASS_IDS.get(number, f"class id {number}")
        videos[video.removesuffix(".mp4")].append({"segment": [start, end], "score": score, "label": label})
    for video, rows in videos.items():
        yield "results", video, rows


def _columns(path: Path, types: tuple[type, ...]) -> Iterator[list[Any]]:
    for number, line in text_lines(path):
        try:
            yield [kind(field) for kind, field in zip(types, line.split(), strict=True)]
        except ValueError:
            form = " ".join({str: "video", float: "number", int: "class-id"}[kind] for kind in types)
            raise UserError(f'{path}: line {number}: "{form}" is needed, not {shown(line)}') from None
