"""Adds to expected.json what the evaluators of further datasets say, as make.py does; run that first.

    python tests/goldens/official/make_datasets.py CLONES

Environment: numpy, pandas, scikit-learn, terminaltables.
"""

import contextlib
import io
import json
import os
import runpy
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
from make import CLASSES, HERE, joblib, lines, module, write, write_lines

EGO4D_TIOU = [0.1, 0.2, 0.3, 0.4, 0.5]  # MQ/Utils/opts.py


def main(clones: Path) -> None:
    inputs()
    expected = json.loads((HERE / "expected.json").read_text())
    expected |= {
        "epic_kitchens": epic_kitchens(clones),
        "ego4d_mq": ego4d_mq(clones),
        "ego4d_nlq": ego4d_nlq(clones),
        "timelens": timelens(clones),
        "nextgqa": nextgqa(clones),
        "gmr": gmr(clones),
    }
    write("expected.json", expected, indent=1)


def inputs() -> None:
    """Moments with queries that have no answer, and spans that answer questions; moments_*.jsonl are the source."""
    rng = np.random.default_rng(21)
    truth, found = lines("moments_truth.jsonl"), lines("moments_found.jsonl")
    for number, (query, prediction) in enumerate(zip(truth, found)):
        query.pop("saliency_scores"), query.pop("relevant_clip_ids"), prediction.pop("pred_saliency_scores")
        if number % 3 == 0:
            query["relevant_windows"] = []
        if number % 7 == 1:
            query["relevant_windows"].append([query["duration"] - 4, query["duration"] + 9])  # past the end
        if number % 2:
            prediction["pred_exist_score"] = round(
                float(rng.uniform(0, 0.6) + 0.3 * bool(query["relevant_windows"])), 3
            )
        if number == 8:
            prediction["pred_relevant_windows"] = []
    write_lines("gmr_truth.jsonl", truth)
    write_lines("gmr_found.jsonl", found)

    located, spans, answers = {}, {}, {}
    for number in range(40):
        video, qid = f"video{number // 4}", str(number % 4)
        moments = np.sort(rng.uniform(0, 60, (int(rng.integers(1, 4)), 2)), axis=1).round(1)
        located.setdefault(video, {"duration": 60, "location": {}, "fps": 25})["location"][qid] = (
            moments.tolist()
        )
        span = np.sort(moments[0] + rng.normal(0, 6, 2)).round(1)
        if number % 10 == 0:
            span = np.repeat(span[0], 2)  # a point
        if number % 10 == 5:
            span = span[::-1]
        spans[f"{video}_{qid}"] = span.tolist()
        answers[f"{video}_{qid}"] = {"answer": int(rng.integers(3)), "prediction": int(rng.integers(3))}
    write("nextgqa_truth.json", located)
    write("nextgqa_found.json", spans)
    write("nextgqa_answers.json", answers)


def epic_kitchens(clones: Path) -> dict:
    """Verbs, nouns and actions of actions_*.json: class i is the verb i // 2 and the noun i."""
    import pandas

    program = module(clones / "C2-Action-Detection/EvaluationCode/evaluate_detection_json_ek100.py", "epic")
    database = json.loads((HERE / "actions_truth.json").read_text())["database"]
    results = json.loads((HERE / "actions_found.json").read_text())["results"]
    pair = {label: (number // 2, number) for number, label in enumerate(CLASSES)}
    clock = lambda time: f"{int(time // 3600):02}:{int(time % 3600 // 60):02}:{time % 60!r}"
    truth = pandas.DataFrame(
        [
            (video, *map(clock, row["segment"]), *pair[row["label"]])
            for video, of_video in database.items()
            if of_video["subset"] == "validation"
            for row in of_video["annotations"]
        ],
        columns=["video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class"],
    )
    entry = lambda row: {
        "verb": pair[row["label"]][0],
        "noun": pair[row["label"]][1],
        "action": "{},{}".format(*pair[row["label"]]),
        "score": row["score"],
        "segment": row["segment"],
    }
    submission = {"results": {video: [entry(row) for row in rows] for video, rows in results.items()}}
    found = {}
    for task in ("verb", "noun", "action"):
        maps, average = program.ANETdetection(truth, submission, label=task).evaluate()
        found[task] = {"mAP": maps.tolist(), "average_mAP": float(average)}
    return found


def ego4d_mq(clones: Path) -> dict:
    package = types.ModuleType("Evaluation")
    package.__path__ = [str(clones / "episodic-memory/MQ/Evaluation")]
    inner = types.ModuleType("Evaluation.ego4d")
    inner.__path__ = [str(clones / "episodic-memory/MQ/Evaluation/ego4d")]
    sys.modules |= {"Evaluation": package, "Evaluation.ego4d": inner, "joblib": joblib}
    from Evaluation.ego4d.eval_detection import ANETdetection
    from Evaluation.ego4d.get_retrieval_performance import Moment_Retrieval

    database = json.loads((HERE / "actions_truth.json").read_text())["database"]
    results = json.loads((HERE / "actions_found.json").read_text())
    ranked = {
        video: sorted(rows, key=lambda row: -row["score"]) for video, rows in results["results"].items()
    }
    clips = {
        video: {
            "subset": of_video["subset"],
            "clip_id": video,
            "annotations": [
                {"label": row["label"], "start_time": row["segment"][0], "end_time": row["segment"][1]}
                for row in of_video["annotations"]
                if row["segment"][0] < row["segment"][1]  # 0 / 0 there
            ],
        }
        for video, of_video in database.items()
    }
    without_empty = lambda rows: [row for row in rows if row["segment"][0] < row["segment"][1]]
    ranked = {video: without_empty(rows) for video, rows in ranked.items()}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("truth.json").write_text(json.dumps(clips))
        Path("found.json").write_text(json.dumps(results | {"results": ranked}))
        run = ANETdetection("truth.json", "found.json", tiou_thresholds=EGO4D_TIOU, subset=["validation"])
        maps, average = run.evaluate()
        recall = Moment_Retrieval("truth.json", "found.json", subset=["validation"]).evaluate()
    of_tiou = zip(("0.30", "0.50", "0.70"), recall.tolist())
    return {
        "mAP": maps.tolist(),
        "average_mAP": float(average),
        "recall": {f"recall@{tiou}@{k}": values[k - 1] for tiou, values in of_tiou for k in (1, 5)},
    }


def ego4d_nlq(clones: Path) -> dict:
    program = module(clones / "episodic-memory/NLQ/VSLNet/utils/evaluate_ego4d_nlq.py", "nlq")
    queries = [
        {"clip_start_sec": row["relevant_windows"][0][0], "clip_end_sec": row["relevant_windows"][0][1]}
        for row in lines("single_moments_truth.jsonl")
    ]
    clip = {"clip_uid": "c", "annotations": [{"annotation_uid": "a", "language_queries": queries}]}
    predictions = [
        {
            "clip_uid": "c",
            "annotation_uid": "a",
            "query_idx": number,
            "predicted_times": [window[:2] for window in row["pred_relevant_windows"]],
        }
        for number, row in enumerate(lines("single_moments_found.jsonl"))
    ]
    recall, miou = program.evaluate_nlq_performance(
        predictions, {"videos": [{"clips": [clip]}]}, [0.3, 0.5], [1, 5]
    )
    names = {f"R{k}@{tiou}": recall[t][r] for t, tiou in enumerate((0.3, 0.5)) for r, k in enumerate((1, 5))}
    return {name: 100 * float(value) for name, value in (names | {"mIoU": miou}).items()}


def timelens(clones: Path) -> dict:
    package = types.ModuleType("timelens")
    package.utils = module(clones / "TimeLens/timelens/utils.py", "timelens_utils")
    sys.modules |= {"timelens": package, "timelens.utils": package.utils}
    rows = {
        f"{truth['vid']}>>>{truth['query']}>>>{truth['relevant_windows'][0]}": {
            "timestamps": [window[:2] for window in found["pred_relevant_windows"][:1]]
        }
        for truth, found in zip(lines("single_moments_truth.jsonl"), lines("single_moments_found.jsonl"))
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        path.write_text(json.dumps(rows))
        before, sys.argv = sys.argv, ["compute_metrics.py", "-f", str(path)]
        runpy.run_path(str(clones / "TimeLens/evaluation/compute_metrics.py"), run_name="__main__")
        sys.argv = before
        told = dict(line.split(": ") for line in path.with_suffix(".log").read_text().splitlines()[1:])
    names = {"IOU 0.3": "R1@0.3", "IOU 0.5": "R1@0.5", "IOU 0.7": "R1@0.7", "mIOU": "mIoU"}
    return {names[name]: float(value) for name, value in told.items()}


def nextgqa(clones: Path) -> dict:
    helpers = types.ModuleType("util")
    helpers.np, helpers.osp = np, os.path
    read = lambda name: json.loads((HERE / f"nextgqa_{name}.json").read_text())
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as folder:  # it prints one digit: more of them
        copy = Path(folder) / "eval_ground.py"
        text = (clones / "NExT-GQA/code/TempGQA/eval_ground.py").read_text()
        copy.write_text(text.replace(":.1f}", ":.12f}"))
        program = module(copy, "eval_ground", util=helpers)
    with contextlib.redirect_stdout(printed):
        program.eval_ground(read("truth"), read("found"), read("answers"))
    names = ("Acc@GQA", "mIoP", "IoP@0.3", "IoP@0.5", "mIoU", "IoU@0.3", "IoU@0.5")
    return dict(zip(names, map(float, printed.getvalue().splitlines()[1].split())))


def gmr(clones: Path) -> dict:
    sys.modules.pop("joblib", None)  # scikit-learn needs the real one
    np.trapz = np.trapezoid
    sys.path.insert(0, str(clones / "generalized-moment-retrieval/eval"))
    from eval_main import evaluate_gmr
    from normalization import normalize_ground_truth

    truth, _ = normalize_ground_truth(lines("gmr_truth.jsonl"), None, drop_empty_gt=False)
    with contextlib.redirect_stdout(io.StringIO()):
        return dict(evaluate_gmr(lines("gmr_found.jsonl"), truth, map_num_workers=1, verbose=False)["brief"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
