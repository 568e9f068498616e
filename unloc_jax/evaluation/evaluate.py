"""`unloc evaluate`: official metrics of a checkpoint, next to controls that say what they are worth."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.evaluation.classifier_scores import multiplied, read_classifier_scores
from unloc_jax.evaluation.predictor import Finder
from unloc_jax.inference.submission import detections, frames, moments, whole_videos, write_text
from unloc_jax.metrics.moment_retrieval import recall_at_k
from unloc_jax.metrics.moment_retrieval_controls import (
    another_query_of_same_video,
    another_videos_query,
    fit_constant_segment,
    right_event_rates,
)
from unloc_jax.processes import is_main
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import Found, Task
from unloc_jax.tasks.highlight_detection import HighlightDetection
from unloc_jax.tasks.moment_retrieval import MomentRetrieval, ranked_segments

CONSTANT = "best constant segment"
RECALLS = ("R1@0.3", "R1@0.5", "R1@0.7", "R5@0.3", "R5@0.5", "R5@0.7", "mIoU")


def evaluate(finder: Finder, split: str, out: Path, classifier_scores: Path | None = None) -> dict[str, Any]:
    """Evaluates a split, prints the tables and writes `metrics.json` and the predictions to `out`.

    Args:
      finder: what is measured, with its dataset.
      split: "train", "validation" or "test".
      out: folder, made if needed.
      classifier_scores: of action localisation, see `read_classifier_scores`.

    A split without ground truth, such as a hidden test split, is predicted and not scored.

    Returns:
      What metrics.json holds.

    Raises:
      UserError: a split that is not there, a dataset that does not fit the model, or a folder that cannot be
        written.
    """
    records = finder.dataset.records(split)
    if finder.task_name != finder.task.config.task:
        print(f"\n== {finder.task_name} ==")
    finder.check_fit(records)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}. Choose another one.") from error
    localizes_actions = finder.task.config.task == "temporal_action_localization"
    if classifier_scores and not localizes_actions:
        raise UserError(
            f"--classifier-scores is for temporal_action_localization; this is {finder.task.config.task}."
        )
    name = "predictions.json" if localizes_actions else "predictions.jsonl"
    if localizes_actions:
        metrics, parts = _evaluate_vocabulary(finder, split, records, classifier_scores)
    elif isinstance(finder.task, HighlightDetection):
        metrics, parts = _evaluate_highlights(finder.task, finder, split, records)
    elif isinstance(finder.task, MomentRetrieval):
        metrics, parts = _evaluate_queries(finder.task, finder, split, records)
    else:
        metrics, parts = _evaluate_other(finder, split, records)
    scored = finder.task.can_score(records)
    metrics = {
        **finder.facts,
        "data": finder.task.config.data.dir,
        "annotation_format": finder.dataset.facts.name,
        "task": finder.task_name,
        "split": split,
        "videos": len(records),
        "scored": scored,
    } | metrics
    if is_main():
        write_text(out / name, parts)
        write_text(out / "metrics.json", [json.dumps(_without_nan(metrics), indent=2) + "\n"])
    if not scored:
        print(
            f"\nnothing was scored: the {split} split of {finder.task.config.data.dir} has no ground truth for "
            f"{finder.task.config.task}. {name} holds the predictions, to be submitted where it is known."
        )
    print(f"wrote {out / 'metrics.json'} and {out / name}")
    return metrics


def _evaluate_vocabulary(
    finder: Finder,
    split: str,
    records: list[VideoRecord],
    classifier_scores: Path | None,
) -> tuple[dict[str, Any], Iterable[str]]:
    """Action localisation: mAP, and predictions in ActivityNet's submission format."""
    external = None
    if classifier_scores:  # before the work
        external = read_classifier_scores(classifier_scores, records, finder.task.evaluation_classes)
    found = finder.find(split, finder.task.evaluation_texts(records))
    if external is not None:
        found = multiplied(found, external)
    scores = finder.task.score(records, found) if finder.task.can_score(records) else {}
    print(
        f"\n{finder.task.config.data.dir}, {split}: {len(records)} videos, "
        f"{len(finder.task.evaluation_classes)} classes"
    )
    for average in (key for key in scores if ":" in key):
        low, high = average.removeprefix("mAP@").split(":")
        step = 0.1 if low == "0.30" else 0.05
        thresholds = np.arange(float(low), float(high) + 1e-6, step)
        print("  tIoU   " + "".join(f"{t:>7.2f}" for t in thresholds) + "   average")
        values = "".join(f"{scores[f'mAP@{t:.2f}']:>7.1f}" for t in thresholds)
        print("  mAP (%)" + values + f"{scores[average]:>10.1f}\n")
    return {"mAP": scores}, detections(finder.task, records, found)


def _evaluate_queries(
    task: MomentRetrieval, finder: Finder, split: str, records: list[VideoRecord]
) -> tuple[dict[str, Any], Iterable[str]]:
    """Moment retrieval: recall, three controls, and how often the right event of the video is hit."""
    of_videos = task.queries(records)
    queries = [query for of_video in of_videos for query in of_video]
    texts = [query.text for query in queries]
    video = np.repeat(np.arange(len(records)), [len(of_video) for of_video in of_videos])
    known = np.flatnonzero([len(query.windows_s) > 0 for query in queries])

    # One pass over the videos: every query is followed by one of another video, for the first control.
    foreign = np.full(len(queries), -1)
    foreign[known] = another_videos_query(video, texts=texts)[known]
    swapped = [
        [*(query.text for query in of_video), *(texts[j] for j in foreign[video == v] if j >= 0)]
        for v, of_video in enumerate(of_videos)
    ]
    both = finder.find(split, swapped)
    found = _columns(both, [slice(0, len(of_video)) for of_video in of_videos])
    metrics: dict[str, Any] = {"queries": len(queries)}
    if len(known) < len(queries):
        metrics["queries_without_ground_truth"] = len(queries) - len(known)
    lines = moments(task, records, of_videos, found)
    if not len(known):
        print(f"\n{task.config.data.dir}, {split}: {len(records)} videos, {len(queries)} queries")
        return metrics, lines

    every = ranked_segments(found)
    ranked, video = [every[i] for i in known], video[known]
    windows_s, texts = [queries[i].windows_s for i in known], [texts[i] for i in known]
    results = {"model": recall_at_k(windows_s, ranked)}
    has_foreign = np.flatnonzero(foreign[known] >= 0)
    if len(has_foreign):
        others = ranked_segments(_columns(both, [slice(len(of_video), None) for of_video in of_videos]))
        results["another video's query"] = recall_at_k([windows_s[i] for i in has_foreign], others)
    neighbour = another_query_of_same_video(video, windows_s, texts)
    has_neighbour = np.flatnonzero(neighbour >= 0)
    if len(has_neighbour):
        results["another query of the same video"] = recall_at_k(
            [windows_s[i] for i in has_neighbour], [ranked[neighbour[i]] for i in has_neighbour]
        )
    constant = None
    train = finder.dataset.records("train") if "train" in finder.dataset.splits else []
    if any(len(record.segments_s) for record in train):
        constant = fit_constant_segment(
            np.concatenate([record.segments_s.reshape(-1, 2) / record.duration_s for record in train])
        )
        always = [np.array([constant]) * records[v].duration_s for v in video]
        results[CONSTANT] = recall_at_k(windows_s, always)

    top1 = np.array([segments[0] if len(segments) else (0.0, 0.0) for segments in ranked])
    right = right_event_rates(top1, windows_s, video, [queries[i].says for i in known], texts)
    _print_queries(task.config.data.dir, split, len(records), len(known), results, right)
    if len(known) < len(queries):
        print(f"  {len(queries) - len(known)} more queries have no ground truth: predicted, not scored\n")
    return metrics | {
        "recall": results,
        "constant_segment": None if constant is None else list(constant),
        "queries_without_another_in_their_video": int((neighbour < 0).sum()),
        "right_event": right,
    }, lines


def _evaluate_highlights(
    task: HighlightDetection, finder: Finder, split: str, records: list[VideoRecord]
) -> tuple[dict[str, Any], Iterable[str]]:
    """Highlight detection: metrics of windows and of moments, and QVHighlights' submission format."""
    found = finder.find(split, task.evaluation_texts(records))
    return {"metrics": _scored(task, split, records, found)}, moments(
        task, records, task.queries(records), found
    )


def _evaluate_other(
    finder: Finder, split: str, records: list[VideoRecord]
) -> tuple[dict[str, Any], Iterable[str]]:
    """Any other task: its own metrics, and one line per video with what was found."""
    found = finder.find(split, finder.task.evaluation_texts(records))
    lines = frames(finder.task, records, found) if found.frame_classes else whole_videos(records, found)
    return {"metrics": _scored(finder.task, split, records, found)}, lines


def _scored(task: Task, split: str, records: list[VideoRecord], found: Found) -> dict[str, float]:
    """The task's metrics, printed; {} where nothing is known to compare with."""
    scores = task.score(records, found) if task.can_score(records) else {}
    print(f"\n{task.config.data.dir}, {split}: {len(records)} videos, {task.config.task} (%)")
    for name, value in scores.items():
        print(f"  {name:<42}{value:>8.1f}")
    print()
    return scores


def _columns(found: Found, of_video: list[slice]) -> Found:
    """Some of the texts of every video."""
    pick = lambda rows: [row[part] for row, part in zip(rows, of_video)]
    return dataclasses.replace(
        found,
        texts=pick(found.texts),
        segments_s=pick(found.segments_s),
        scores=pick(found.scores),
        points=pick(found.points) if found.points else [],
    )


def _print_queries(
    name: str, split: str, num_videos: int, num_queries: int, results: dict[str, dict], right: dict[str, Any]
) -> None:
    print(f"\n{name}, {split}: {num_videos} videos, {num_queries} queries; recall (%) at IoU, mean IoU (%)")
    print(f"  {'':<42}" + "".join(f"{key:>8}" for key in RECALLS))
    for row, values in results.items():
        label = row if row == "model" else f"control: {row}"
        # A constant is one segment: its recall at 5 would only repeat that at 1.
        absent = [key for key in RECALLS if row == CONSTANT and key.startswith("R5")]
        cells = ["–" if key in absent else f"{values[key]:.1f}" for key in RECALLS]
        print(f"  {label:<42}" + "".join(f"{cell:>8}" for cell in cells))
    print("\n  Is it the right event of the video that is hit? (%)")
    print(f"  {'':<42}{'right':>8}{'chance':>8}{'none hit':>10}{'queries':>9}")
    rows = {"all queries": right["right_event"]}
    rows |= {f"others differ only in {key}": value for key, value in right["differs_only_in"].items()}
    for label, value in rows.items():
        if value["count"]:
            print(
                f"  {label:<42}{value['rate']:>8.1f}{value['chance']:>8.1f}{value['hit_none']:>10.1f}"
                f"{value['count']:>9d}"
            )
    print()


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: rates over nothing become null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and value != value else value
