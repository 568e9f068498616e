"""`unloc evaluate`: official metrics of a checkpoint, next to controls that say what they are worth."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.inference.classifier_scores import multiplied, read_classifier_scores
from unloc_jax.inference.finder import Finder
from unloc_jax.metrics.highlights import clip_scores
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
from unloc_jax.tasks.moment_retrieval import ranked_segments

CONSTANT = "best constant segment"
RECALLS = ("R1@0.3", "R1@0.5", "R1@0.7", "R5@0.3", "R5@0.5", "R5@0.7", "mIoU")


def evaluate(finder: Finder, split: str, out: Path, classifier_scores: Path | None = None) -> dict[str, Any]:
    """Evaluates a split, prints the tables and writes `metrics.json` and the predictions to `out`.

    Args:
      finder: what is measured, with its dataset.
      split: "train", "validation" or "test".
      out: folder, made if needed.
      classifier_scores: of action localisation, see `read_classifier_scores`.

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
    if localizes_actions:
        metrics, predictions = _evaluate_vocabulary(finder, split, records, classifier_scores)
        name = "predictions.json"
        content = json.dumps(predictions)
    else:
        by_task = _evaluate_queries if finder.task.config.task == "moment_retrieval" else _evaluate_other
        metrics, lines = by_task(finder, split, records)
        name = "predictions.jsonl"
        content = "".join(json.dumps(line) + "\n" for line in lines)
    metrics = {
        **finder.facts,
        "data": finder.task.config.data.dir,
        "annotation_format": finder.dataset.facts.name,
        "task": finder.task_name,
        "split": split,
        "videos": len(records),
    } | metrics
    if is_main():
        (out / name).write_text(content)
        (out / "metrics.json").write_text(json.dumps(_without_nan(metrics), indent=2) + "\n")
    print(f"wrote {out / 'metrics.json'} and {out / name}")
    return metrics


def _evaluate_vocabulary(
    finder: Finder,
    split: str,
    records: list[VideoRecord],
    classifier_scores: Path | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Action localisation: mAP, and predictions in ActivityNet's submission format."""
    external = None
    if classifier_scores:  # before the work
        external = read_classifier_scores(classifier_scores, records, finder.task.evaluation_classes)
    found = finder.find(split, finder.task.evaluation_texts(records))
    if external is not None:
        found = multiplied(found, external)
    scores = finder.task.score(records, found)
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
    results = {}
    levels = _levels(finder.task, found)
    for record, *of_classes in zip(records, found.segments_s, found.scores, levels):
        rows: list[dict[str, Any]] = [
            {
                "label": label,
                "score": round(float(score), 5),
                "segment": [round(float(x), 3) for x in segment],
                **({} if level is None else {"level": int(level)}),
            }
            for label, *of_class in zip(finder.task.evaluation_classes, *of_classes)
            for segment, score, level in zip(*of_class)
            if score > 0
        ]
        results[record.video_id] = sorted(rows, key=lambda row: -float(row["score"]))[:200]
    return {"mAP": scores}, {"version": "VERSION 1.3", "results": results, "external_data": {}}


def _evaluate_queries(
    finder: Finder, split: str, records: list[VideoRecord]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Moment retrieval: recall, three controls, and how often the right event of the video is hit."""
    own = finder.task.evaluation_texts(records)
    queries = [text for of_video in own for text in of_video]
    video = np.repeat(np.arange(len(records)), [len(of_video) for of_video in own])
    ground_truth = np.concatenate([record.segments_s for record in records])

    # One pass over the videos: every query is followed by one of another video, for the first control.
    foreign = another_videos_query(video)
    swapped = [
        [*of_video, *(queries[j] for j in foreign[video == v] if j >= 0)] for v, of_video in enumerate(own)
    ]
    both = finder.find(split, swapped)
    found = _columns(both, [slice(0, len(of_video)) for of_video in own])
    ranked = ranked_segments(found)
    results = {"model": recall_at_k(ground_truth, ranked)}

    has_foreign = foreign >= 0
    if has_foreign.any():
        others = ranked_segments(_columns(both, [slice(len(of_video), None) for of_video in own]))
        results["another video's query"] = recall_at_k(ground_truth[has_foreign], others)
    neighbour = another_query_of_same_video(video, ground_truth)
    has_neighbour = np.flatnonzero(neighbour >= 0)
    if len(has_neighbour):
        results["another query of the same video"] = recall_at_k(
            ground_truth[has_neighbour], [ranked[neighbour[i]] for i in has_neighbour]
        )
    constant = None
    if "train" in finder.dataset.splits:
        constant = fit_constant_segment(
            np.concatenate([r.segments_s / r.duration_s for r in finder.dataset.records("train")])
        )
        durations = np.array([record.duration_s for record in records])[video]
        always = [np.array([constant]) * duration for duration in durations]
        results[CONSTANT] = recall_at_k(ground_truth, always)

    top1 = np.array([segments[0] if len(segments) else (0.0, 0.0) for segments in ranked])
    attributes = [attribute for record in records for attribute in record.attributes]
    right = right_event_rates(top1, ground_truth, video, attributes)
    _print_queries(finder.task.config.data.dir, split, len(records), len(queries), results, right)
    rows = zip(video, queries, ground_truth, _windows_and_levels(finder.task, found))
    lines = [
        {
            **_query_row(records[v], query, attributes[i].get("qid")),
            "relevant_windows": [[round(float(x), 3) for x in truth]],
            **windows,
        }
        for i, (v, query, truth, windows) in enumerate(rows)
    ]
    metrics = {
        "queries": len(queries),
        "recall": results,
        "constant_segment": None if constant is None else list(constant),
        "queries_without_another_in_their_video": int((neighbour < 0).sum()),
        "right_event": right,
    }
    return metrics, lines


def _evaluate_other(
    finder: Finder, split: str, records: list[VideoRecord]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Any other task: its own metrics, and one line per video with what was found."""
    found = finder.find(split, finder.task.evaluation_texts(records))
    scores = finder.task.score(records, found)
    print(f"\n{finder.task.config.data.dir}, {split}: {len(records)} videos, {finder.task.config.task} (%)")
    for name, value in scores.items():
        print(f"  {name:<42}{value:>8.1f}")
    print()
    if found.segments_s:
        return {"metrics": scores}, _highlight_lines(finder.task, records, found)
    lines = []
    for v, record in enumerate(records):
        line: dict[str, Any] = {"video_id": record.video_id}
        texts = found.texts[v]
        if found.frame_classes:
            line["times_s"] = _times_s(found.spans_s[v], len(found.frame_classes[v]))
            line["frames"] = [texts[i] if i >= 0 else None for i in found.frame_classes[v]]
        if found.video_scores:
            best = np.argsort(-found.video_scores[v], kind="stable")[:5]
            line["best"] = [[texts[i], float(found.video_scores[v][i])] for i in best]
        lines.append(line)
    return {"metrics": scores}, lines


def _highlight_lines(task: Task, records: list[VideoRecord], found: Found) -> list[dict[str, Any]]:
    """QVHighlights' submission format, and the ground truth's windows."""
    windows = iter(_windows_and_levels(task, found))
    lines = []
    for v, record in enumerate(records):
        for i, query in enumerate(found.texts[v]):
            own = [row for row, text in enumerate(record.texts) if text == query]
            qid = next(
                (record.attributes[row]["qid"] for row in own if "qid" in record.attributes[row]), None
            )
            truth = [record.segments_s[row].round(3).tolist() for row in own if row < len(record.segments_s)]
            clips = clip_scores(found.curves[v][i], found.spans_s[v], record.duration_s)
            lines.append(
                {
                    **_query_row(record, query, qid),
                    "relevant_windows": truth,
                    **next(windows),
                    "pred_saliency_scores": clips.round(5).tolist(),
                }
            )
    return lines


def _query_row(record: VideoRecord, query: str, qid: Any) -> dict[str, Any]:
    """What says which query of which video a line is about."""
    number = {} if qid is None else {"qid": int(qid) if str(qid).isdigit() else qid}
    return number | {"vid": record.video_id, "query": query, "duration": round(record.duration_s, 3)}


def _windows_and_levels(task: Task, found: Found) -> list[dict[str, Any]]:
    """Of every query of every video, best first: moment_detr's format, and the pyramid level of each window."""
    rows = []
    for of_video in zip(found.segments_s, found.scores, _levels(task, found)):
        for segments, scores, levels in zip(*of_video):
            real = scores > 0
            windows = np.concatenate([segments[real].round(3), scores[real, None].round(5)], axis=1)
            row = {"pred_relevant_windows": [[round(float(x), 5) for x in one] for one in windows]}
            rows.append(row | ({"pred_levels": levels[real].tolist()} if found.points else {}))
    return rows


def _levels(task: Task, found: Found) -> list[np.ndarray]:
    """Per video [n, K]: the pyramid level of every segment; None where nothing came from a pyramid."""
    if found.points:
        return [task.geometry.levels[points] for points in found.points]
    return [np.full(scores.shape, None) for scores in found.scores]


def _times_s(span_s: np.ndarray, num_frames: int) -> list[float]:
    return np.linspace(span_s[0], span_s[1], num_frames).round(3).tolist()


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
