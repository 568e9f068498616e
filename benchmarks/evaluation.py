"""Times evaluation: `python benchmarks/evaluation.py [--ground-truth FILE] [--qvhighlights FILE] [--all]`.

Goes from files to numbers as `unloc metrics` does: half a million detections on ActivityNet's validation set, and
moments and highlights on QVHighlights' validation set, and as many sentences as MAD has. Compares with the published
detection algorithm, one prediction after the other (`detection_one_by_one.py`), in the same run on the same
predictions: with dicts and, if pandas is installed, with pandas tables like the official evaluator. The comparison
covers some of the 200 classes, or all of them with --all (minutes with tables).

Half of the predictions are annotated segments moved a little, half are random. The annotations are synthetic too, in
the datasets' number and format, unless FILE names the real ones.
"""

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from detection_one_by_one import average_precisions_one_by_one

from unloc_jax.metrics.checks import InputWarning
from unloc_jax.metrics.detection import ACTIVITYNET_TIOU, GroundTruth, Predictions, detection_map
from unloc_jax.metrics.generalized_retrieval import localization_scores
from unloc_jax.metrics.protocols.action_files import read_annotations, read_results
from unloc_jax.metrics.protocols.activitynet import evaluate_activitynet
from unloc_jax.metrics.protocols.moment_files import Query
from unloc_jax.metrics.protocols.moment_retrieval import best_ious
from unloc_jax.metrics.protocols.qvhighlights import evaluate_qvhighlights
from unloc_jax.metrics.protocols.run import measure
from unloc_jax.paths import ArgumentParser

RUNS = 5
VIDEOS, CLASSES, PER_VIDEO = 4926, 200, 100
PEER_CLASSES = {"one by one": 20, "one by one, tables": 4}
QUERIES, CLIPS = 1550, 75
SENTENCES = 384_600


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ground-truth", type=Path, metavar="FILE", help="ActivityNet 1.3 (JSON)")
    parser.add_argument("--qvhighlights", type=Path, metavar="FILE", help="highlight_val_release.jsonl")
    parser.add_argument("--all", action="store_true", help="classes for the peer")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the files here and keep them")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", InputWarning)  # about equal scores: the predictions have some by chance
    with tempfile.TemporaryDirectory() as folder:
        folder = arguments.keep or Path(folder)
        detections(folder, arguments.ground_truth, arguments.all)
        moments(folder, arguments.qvhighlights)
        films(folder)


def detections(folder: Path, ground_truth: Path | None, all_classes: bool) -> None:
    rng = np.random.default_rng(0)
    if ground_truth is None:
        ground_truth = folder / "activitynet.json"
        ground_truth.write_text(json.dumps({"database": activitynet(rng)}))
    predictions = folder / "activitynet_predictions.json"
    predictions.write_text(json.dumps({"results": detected(ground_truth, rng)}))

    annotations = read_annotations(ground_truth, "validation")
    truth, found = annotations.truth, read_results(predictions, annotations)
    from_files = median_s(lambda: evaluate_activitynet(ground_truth, predictions))
    print(
        f"ActivityNet validation, {len(truth.class_index)} segments, {len(found.score)} predictions, 10 thresholds"
    )
    row("from files to mAP", from_files)
    row("mAP of arrays", median_s(lambda: detection_map(truth, found)))
    for name, number in PEER_CLASSES.items():
        number = len(annotations.classes) if all_classes else min(number, len(annotations.classes))
        against_peer(name, _of_classes(truth, number), _of_classes(found, number), number)


def against_peer(name: str, truth: GroundTruth, found: Predictions, num_classes: int) -> None:
    tables = name.endswith("tables")
    if tables and not importlib.util.find_spec("pandas"):
        print(f"  {name}: pandas is not installed")
        return
    ours_s = median_s(lambda: detection_map(truth, found))
    started = time.perf_counter()
    peer = average_precisions_one_by_one(truth, found, range(num_classes), ACTIVITYNET_TIOU, tables=tables)
    peer_s = time.perf_counter() - started
    difference = np.abs(100 * peer - detection_map(truth, found)["per_class_AP"]).max()
    print(
        f"  {num_classes} classes, {len(found.score)} predictions; APs differ by up to {difference:.0e} points"
    )
    row("  mAP of arrays", ours_s)
    row(f"  {name}", peer_s, f", {peer_s / ours_s:.0f} times")


def moments(folder: Path, ground_truth: Path | None) -> None:
    rng = np.random.default_rng(0)
    if ground_truth is None:
        ground_truth = folder / "qvhighlights.jsonl"
        write_lines(ground_truth, qvhighlights(rng))
    annotated = [json.loads(line) for line in ground_truth.read_text().splitlines()]
    predictions = folder / "qvhighlights_predictions.jsonl"
    write_lines(predictions, [highlighted(query, rng) for query in annotated])
    print(f"QVHighlights validation, {len(annotated)} queries, 10 windows and one score per clip each")
    row("from files to numbers", median_s(lambda: evaluate_qvhighlights(ground_truth, predictions)))


def films(folder: Path) -> None:
    """As many sentences as MAD has, with ten windows each, in files as `unloc evaluate` writes them."""
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 7000, SENTENCES).round(2)
    truth, found = folder / "mad.jsonl", folder / "mad_predictions.jsonl"
    with truth.open("w") as file:
        for i, start in enumerate(starts.tolist()):
            moment = [[start, start + 4]]
            file.write(json.dumps({"qid": i, "vid": f"film {i // 600}", "relevant_windows": moment}) + "\n")
    near = starts[:, None] + rng.normal(0, 3, (SENTENCES, 10)) * np.arange(10)
    score = np.sort(rng.random((SENTENCES, 10)), axis=1)[:, ::-1]
    windows = np.stack([near, near + 4, score], axis=-1).round(4)
    with found.open("w") as file:
        for i, of_query in enumerate(windows.tolist()):
            file.write(json.dumps({"qid": i, "pred_relevant_windows": of_query}) + "\n")
    print(f"MAD, {SENTENCES} sentences, 10 windows each: R@1 to R@100 at three thresholds")
    row("from files to numbers", median_s(lambda: measure("mad", truth, found), runs=1))
    answers = [np.array([[start, start + 4]]) for start in starts[:10000]]
    queries = [Query(i, windows_s, {}) for i, windows_s in enumerate(answers)]
    row("of 10,000 in memory", median_s(lambda: best_ious(queries, list(windows[:10000]), 100)))
    gmr = lambda: localization_scores(answers, list(windows[:10000, :, :2]), (1, 3, 5))
    row("gmr, 10,000 in memory", median_s(gmr))


def activitynet(rng: np.random.Generator) -> dict[str, Any]:
    """Returns videos of 20 to 240 s with one class and one to three segments each."""
    database = {}
    for i in range(VIDEOS):
        duration = rng.uniform(20, 240)
        annotations = [
            {"segment": np.sort(rng.uniform(0, duration, 2)).tolist(), "label": f"class {i % CLASSES}"}
            for _ in range(rng.choice([1, 1, 1, 2, 3]))
        ]
        database[f"video {i}"] = {
            "subset": "validation",
            "duration": duration,
            "annotations": annotations,
        }
    return database


def detected(ground_truth: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Returns predictions of mostly one class per video, usually the right one; every tenth has a random class."""
    database = json.loads(ground_truth.read_text())["database"]
    database = {name: video for name, video in database.items() if video["subset"] == "validation"}
    classes = sorted({a["label"] for video in database.values() for a in video["annotations"]})
    results = {}
    for name, video in database.items():
        duration, annotations = video["duration"], video["annotations"]
        segments = rng.uniform(0, duration, (PER_VIDEO, 2))
        near = np.array(
            [annotations[i]["segment"] for i in rng.integers(len(annotations), size=PER_VIDEO // 2)]
        )
        segments[: PER_VIDEO // 2] = near + rng.normal(0, 0.1 * duration, near.shape)
        segments = np.sort(segments.clip(0, duration), axis=1).round(3)
        best = annotations[0]["label"] if rng.random() < 0.85 else rng.choice(classes)
        labels = np.where(rng.random(PER_VIDEO) < 0.9, best, rng.choice(classes, PER_VIDEO))
        scores = rng.random(PER_VIDEO).round(7)
        results[name] = [
            {"segment": segment, "score": score, "label": label}
            for segment, score, label in zip(segments.tolist(), scores.tolist(), labels.tolist())
        ]
    return results


def qvhighlights(rng: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for i in range(QUERIES):
        starts = np.sort(rng.choice(CLIPS - 12, 2, replace=False)).tolist()
        clips = sorted({clip for start in starts for clip in range(start, start + int(rng.integers(2, 12)))})
        rows.append(
            {
                "qid": i,
                "vid": f"video {i}",
                "query": "",
                "duration": 2 * CLIPS,
                "relevant_windows": [[2 * start, 2 * start + int(rng.integers(2, 60))] for start in starts],
                "relevant_clip_ids": clips,
                "saliency_scores": rng.integers(0, 5, (len(clips), 3)).tolist(),
            }
        )
    return rows


def highlighted(query: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    windows = np.sort(rng.uniform(0, query["duration"], (10, 2)), axis=1)
    scores = np.sort(rng.random(10))[::-1]
    return {
        "qid": query["qid"],
        "pred_relevant_windows": np.column_stack([windows, scores]).round(4).tolist(),
        "pred_saliency_scores": rng.normal(size=int(query["duration"] / 2)).round(4).tolist(),
    }


def _of_classes(rows: GroundTruth | Predictions, number: int) -> Any:
    return type(rows)(*(column[rows.class_index < number] for column in rows))


def median_s(run: Callable[[], object], runs: int = RUNS) -> float:
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def row(name: str, seconds: float, remark: str = "") -> None:
    print(f"  {name:24}{seconds:9.3f} s{remark}")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")


if __name__ == "__main__":
    main()
