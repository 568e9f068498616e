"""Classification of trimmed videos: top-k accuracy, as on Kinetics."""

from pathlib import Path
from typing import Any

from unloc_jax import siblings
from unloc_jax.errors import UserError
from unloc_jax.metrics.checks import Problems, videos_of_both, warn
from unloc_jax.metrics.protocols.json_files import NUMBER, hint_of_format, is_finite, read_rows
from unloc_jax.names import as_text, normal_id, normal_text

KS = (1, 5)


def evaluate_classification(ground_truth: Path, predictions: Path) -> dict[str, Any]:
    """Returns top-1 and top-5 accuracy in percent.

    Args:
      ground_truth: Kinetics' table (.csv); or JSON lines {"video_id": …, "label": …}.
      predictions: JSON lines {"video_id": …, "best": [[label, score], …]}, at least five if there are that many
        classes; equal scores rank in the given order.

    Returns:
      "top1", "top5", "videos". A video without a prediction counts as wrong and causes a warning; predictions of
      unknown videos do not count.

    Raises:
      UserError: a file has another format, or no predicted video is in the ground truth.
    """
    truth = _kinetics(ground_truth) if ground_truth.suffix.lower() == ".csv" else _labels(ground_truth)
    found = _ranked_labels(predictions)
    both = videos_of_both(truth, found, ground_truth, predictions, "they are wrong")
    hits = {k: sum(truth[video] in found[video][:k] for video in both) for k in KS}
    return {**{f"top{k}": 100 * hits[k] / len(truth) for k in KS}, "videos": len(truth)}


def _kinetics(path: Path) -> dict[str, str]:
    with siblings.ours("data_pipelines"):
        from data_pipelines.annotations import parse  # reads tables, no TensorFlow

        parsed = parse("kinetics", [path])
    if not parsed.records:
        raise UserError(f"{path}: no clip has a label: there is nothing to compare with")
    return {normal_id(record.video_id): record.texts[0] for record in parsed.records if record.texts}


def _labels(path: Path) -> dict[str, str]:
    problems, labels = Problems(path, "videos"), {}
    for where, row in read_rows(path):
        problems.seen += 1
        video, label = row.get("video_id"), row.get("label")
        if not as_text(video) or not as_text(label):
            problems.add(where, f'"video_id" and "label" are needed{hint_of_format(row, "best")}')
            continue
        labels[normal_id(video)] = normal_text(label)
    problems.refuse()
    if len(labels) < problems.seen:
        warn(f"{problems.seen - len(labels)} videos of {path} occur twice: the last one counts")
    return labels


def _ranked_labels(path: Path) -> dict[str, list[str]]:
    problems, labels = Problems(path, "predictions"), {}
    for where, row in read_rows(path):
        problems.seen += 1
        video, best = row.get("video_id"), row.get("best", [])
        right = (
            isinstance(best, list)
            and bool(best)
            and all(
                isinstance(one, list)
                and len(one) == 2
                and isinstance(one[0], str)
                and type(one[1]) in NUMBER
                and is_finite(one[1])
                for one in best
            )
        )
        if not isinstance(video, str | int) or not right:
            problems.add(
                where,
                f'"video_id" and "best", a list of [label, score], are needed{hint_of_format(row, "best")}',
            )
            continue
        ranked = sorted(best, key=lambda one: -one[1])
        labels[normal_id(video)] = [normal_text(label) for label, _ in ranked]
    problems.refuse()
    if len(labels) < problems.seen:
        warn(f"{problems.seen - len(labels)} videos of {path} occur twice: the last one counts")
    return labels
