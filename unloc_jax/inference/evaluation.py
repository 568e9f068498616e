"""`unloc evaluate`: official metrics of a checkpoint, next to controls that say what they are worth."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from unloc_jax.dataset import Dataset
from unloc_jax.errors import UserError
from unloc_jax.inference.classifier_scores import multiplied, read_classifier_scores
from unloc_jax.inference.localizer import LoadedModel
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
from unloc_jax.tasks import Found
from unloc_jax.tasks.evaluation import find
from unloc_jax.tasks.moment_retrieval import ranked_segments
from unloc_jax.training.sharding import batch_sharding

CONSTANT = "best constant segment"
RECALLS = ("R1@0.3", "R1@0.5", "R1@0.7", "R5@0.3", "R5@0.5", "R5@0.7", "mIoU")


def evaluate(
    model: LoadedModel, dataset: Dataset, split: str, out: Path, classifier_scores: Path | None = None
) -> dict[str, Any]:
    """Evaluates a split, prints the tables and writes `metrics.json` and the predictions to `out`.

    Args:
      model: a loaded checkpoint.
      dataset: opened with the model's config.
      split: "train", "validation" or "test".
      out: folder, made if needed.
      classifier_scores: of action localisation, see `read_classifier_scores`.

    Returns:
      What metrics.json holds.

    Raises:
      UserError: a split that is not there, a dataset that does not fit the model, or a folder that cannot be
        written.
    """
    records = dataset.records(split)
    if model.task_name != model.task.config.task:
        print(f"\n== {model.task_name} ==")
    _check_fit(model, dataset, records)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out={out} cannot be written: {error.strerror}. Choose another one.") from error
    localizes_actions = model.task.config.task == "temporal_action_localization"
    if classifier_scores and not localizes_actions:
        raise UserError(
            f"--classifier-scores is for temporal_action_localization; this is {model.task.config.task}."
        )
    if localizes_actions:
        metrics, predictions = _evaluate_vocabulary(model, dataset, split, records, classifier_scores)
        name = "predictions.json"
        content = json.dumps(predictions)
    else:
        by_task = _evaluate_queries if model.task.config.task == "moment_retrieval" else _evaluate_other
        metrics, lines = by_task(model, dataset, split, records)
        name = "predictions.jsonl"
        content = "".join(json.dumps(line) + "\n" for line in lines)
    metrics = {
        "checkpoint": str(model.step_dir),
        "data": model.task.config.data.dir,
        "annotation_format": dataset.facts.name,
        "task": model.task_name,
        "split": split,
        "videos": len(records),
    } | metrics
    if is_main():
        (out / name).write_text(content)
        (out / "metrics.json").write_text(json.dumps(_without_nan(metrics), indent=2) + "\n")
    print(f"wrote {out / 'metrics.json'} and {out / name}")
    return metrics


def _check_fit(model: LoadedModel, dataset: Dataset, records: list[VideoRecord]) -> None:
    """Refuses a dataset on which the model's numbers would mean nothing."""
    trained_on, found = model.facts.short_side, dataset.facts.short_side
    if trained_on != found:
        raise UserError(
            f"the model was trained on frames with a short side of {trained_on} pixels, this dataset's have {found}. "
            f"Build it with `unloc data build --short-side {trained_on} …`."
        )
    known = model.task.evaluation_classes
    unknown = sorted({text for record in records for text in record.texts} - set(known))
    if known and unknown:
        raise UserError(
            f"{len(unknown)} classes of this dataset, such as {unknown[0]!r}, are none of the model's "
            f"{len(known)} classes ({dataset.facts.name} now, {model.facts.name} in training)."
        )


def _find(model: LoadedModel, dataset: Dataset, split: str, texts: Sequence[Sequence[str]]) -> Found:
    batch_size, windows = model.task.config.evaluation.batch_size, dataset.num_windows(split)
    bar = lambda batches: tqdm(
        batches,
        total=-(-sum(windows) // batch_size),
        desc=f"evaluate {split}",
        unit="batch",
        file=sys.stderr,
        disable=not is_main(),
    )
    detect = jax.jit(model.task.detect)
    batches = dataset.evaluation_batches(split)
    return find(model.task, detect, model.params, batches, texts, batch_sharding(model.mesh), bar, windows)


def _evaluate_vocabulary(
    model: LoadedModel,
    dataset: Dataset,
    split: str,
    records: list[VideoRecord],
    classifier_scores: Path | None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Action localisation: mAP, and predictions in ActivityNet's submission format."""
    external = None
    if classifier_scores:  # before the work
        external = read_classifier_scores(classifier_scores, records, model.task.evaluation_classes)
    found = _find(model, dataset, split, model.task.evaluation_texts(records))
    if external is not None:
        found = multiplied(found, external)
    scores = model.task.score(records, found)
    print(
        f"\n{model.task.config.data.dir}, {split}: {len(records)} videos, "
        f"{len(model.task.evaluation_classes)} classes"
    )
    for average in (key for key in scores if ":" in key):
        low, high = average.removeprefix("mAP@").split(":")
        step = 0.1 if low == "0.30" else 0.05
        thresholds = np.arange(float(low), float(high) + 1e-6, step)
        print("  tIoU   " + "".join(f"{t:>7.2f}" for t in thresholds) + "   average")
        values = "".join(f"{scores[f'mAP@{t:.2f}']:>7.1f}" for t in thresholds)
        print("  mAP (%)" + values + f"{scores[average]:>10.1f}\n")
    results = {}
    for record, *of_classes in zip(records, found.segments_s, found.scores, found.points):
        rows: list[dict[str, Any]] = [
            {
                "label": label,
                "score": round(float(score), 5),
                "segment": [round(float(x), 3) for x in segment],
                "level": int(model.task.geometry.levels[point]),
            }
            for label, *of_class in zip(model.task.evaluation_classes, *of_classes)
            for segment, score, point in zip(*of_class)
            if score > 0
        ]
        results[record.video_id] = sorted(rows, key=lambda row: -float(row["score"]))[:200]
    return {"mAP": scores}, {"version": "VERSION 1.3", "results": results, "external_data": {}}


def _evaluate_queries(
    model: LoadedModel, dataset: Dataset, split: str, records: list[VideoRecord]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Moment retrieval: recall, three controls, and how often the right event of the video is hit."""
    own = model.task.evaluation_texts(records)
    queries = [text for of_video in own for text in of_video]
    video = np.repeat(np.arange(len(records)), [len(of_video) for of_video in own])
    ground_truth = np.concatenate([record.segments_s for record in records])

    # One pass over the videos: every query is followed by one of another video, for the first control.
    foreign = another_videos_query(video)
    swapped = [
        [*of_video, *(queries[j] for j in foreign[video == v] if j >= 0)] for v, of_video in enumerate(own)
    ]
    both = _find(model, dataset, split, swapped)
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
    if "train" in dataset.splits:
        constant = fit_constant_segment(
            np.concatenate([r.segments_s / r.duration_s for r in dataset.records("train")])
        )
        durations = np.array([record.duration_s for record in records])[video]
        always = [np.array([constant]) * duration for duration in durations]
        results[CONSTANT] = recall_at_k(ground_truth, always)

    top1 = np.array([segments[0] if len(segments) else (0.0, 0.0) for segments in ranked])
    attributes = [attribute for record in records for attribute in record.attributes]
    right = right_event_rates(top1, ground_truth, video, attributes)
    _print_queries(model.task.config.data.dir, split, len(records), len(queries), results, right)
    rows = zip(video, queries, ground_truth, _windows_and_levels(model, found))
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
    model: LoadedModel, dataset: Dataset, split: str, records: list[VideoRecord]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Any other task: its own metrics, and one line per video with what was found."""
    found = _find(model, dataset, split, model.task.evaluation_texts(records))
    scores = model.task.score(records, found)
    print(f"\n{model.task.config.data.dir}, {split}: {len(records)} videos, {model.task.config.task} (%)")
    for name, value in scores.items():
        print(f"  {name:<42}{value:>8.1f}")
    print()
    if found.segments_s:
        return {"metrics": scores}, _highlight_lines(model, records, found)
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


def _highlight_lines(model: LoadedModel, records: list[VideoRecord], found: Found) -> list[dict[str, Any]]:
    """QVHighlights' submission format, and the ground truth's windows."""
    windows = iter(_windows_and_levels(model, found))
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


def _windows_and_levels(model: LoadedModel, found: Found) -> list[dict[str, Any]]:
    """Of every query of every video, best first: moment_detr's format, and the pyramid level of each window."""
    rows = []
    for of_video in zip(found.segments_s, found.scores, found.points):
        for segments, scores, points in zip(*of_video):
            real = scores > 0
            windows = np.concatenate([segments[real].round(3), scores[real, None].round(5)], axis=1)
            rows.append(
                {
                    "pred_relevant_windows": [[round(float(x), 5) for x in row] for row in windows],
                    "pred_levels": model.task.geometry.levels[points[real]].tolist(),
                }
            )
    return rows


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
        points=pick(found.points),
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
