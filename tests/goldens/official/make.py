"""Makes the files of this folder: small inputs of our own, and the official evaluators' results for them.

    python tests/goldens/official/make.py CLONES

CLONES holds the official programs, each in a folder named like its repository (README.md lists files and commits). It
runs in a separate environment: numpy, pandas, scikit-learn, scipy, terminaltables. Nothing here imports
unloc_jax.
"""

import importlib.util
import json
import re
import sys
import tempfile
import types
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
CLASSES = ("BaseballPitch", "Billiards", "Diving", "LongJump", "Shotput")
DEVKIT_TIOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
# The old programs are Python 2 and NumPy 1, and their functions need not go to other processes.
np.float, np.int, np.trapz = float, int, np.trapezoid
joblib = types.ModuleType("joblib")
joblib.delayed = lambda function: lambda *words, **named: lambda: function(*words, **named)
joblib.Parallel = lambda n_jobs: lambda calls: [call() for call in calls]


def main(clones: Path) -> None:
    inputs()
    expected = {
        "actions": actions(clones),
        "proposals": proposals(clones),
        "thumos14": thumos14(clones),
        "detad": detad(clones),
        "qvhighlights": qvhighlights(clones),
        "moments": moments(clones),
        "didemo": didemo(clones),
        "highlights": highlights(clones),
        "segmentation": segmentation(clones),
        "coin": coin(clones),
    }
    write("expected.json", expected, indent=1)


# --- inputs


def inputs() -> None:
    rng = np.random.default_rng(14)
    write_actions(rng)
    write_moments(rng)
    write_highlights(rng)
    write_frames(rng)


def write_actions(rng) -> None:
    """Repeated and empty segments, videos without any, predictions in unknown videos; no score twice."""
    database, results, ambiguous = {}, {}, {}
    for number in range(24):
        video, duration = f"video_{number:02}", float(rng.integers(40, 200))
        rows = []
        for _ in range(int(rng.integers(0, 6)) if number else 3):
            start = round(float(rng.uniform(0, duration - 5)), 2)
            end = round(min(duration, start + float(rng.exponential(15)) + 0.5), 2)
            rows.append({"segment": [start, end], "label": str(rng.choice(CLASSES))})
        if number == 0:
            rows.append(
                {
                    "segment": [rows[0]["segment"][0], rows[0]["segment"][1] + 0.0005],
                    "label": rows[0]["label"],
                }
            )
            rows.append({"segment": [9.0, 9.0], "label": CLASSES[0]})
        subset = "validation" if number < 22 else "training"
        database[video] = {"subset": subset, "duration": duration, "annotations": rows}
        found = [row["segment"] + [row["label"]] for row in rows for _ in range(int(rng.integers(0, 4)))]
        found += [
            [s, s + 12.0, str(rng.choice(CLASSES))] for s in rng.uniform(0, duration, 3).round(2).tolist()
        ]
        results[video] = [
            {"segment": np.add(segment[:2], rng.normal(0, 1.5, 2)).round(2).tolist(), "label": segment[2]}
            for segment in found
        ]
        if number % 5 == 0:
            at = round(float(rng.uniform(0, duration - 20)), 2)
            ambiguous[video] = [[at, at + 20.0]]
    results["video_00"].append(
        {"segment": [30.0, 30.0], "label": CLASSES[0]}
    )  # hits the empty one, officially
    order = [row for rows in results.values() for row in rows]
    for row in order:
        row["segment"] = sorted(row["segment"])
    for row, score in zip(order, rng.permutation(np.arange(1, len(order) + 1)) / 1000):
        row["score"] = float(score)
    known = {video: rows for video, rows in results.items() if any_rows(database, video)}
    facts = {"taxonomy": [], "version": "of our own"}
    write("actions_truth.json", facts | {"database": database, "ambiguous": ambiguous})
    write("actions_found.json", {"version": "", "external_data": {}, "results": results})
    # DETAD compares predictions in a video without segments with another video's: these are left out for it.
    write("actions_found_in_known_videos.json", {"version": "", "external_data": {}, "results": known})


def any_rows(database, video) -> bool:
    of_video = database[video]
    return of_video["subset"] == "validation" and bool(of_video["annotations"])


def write_moments(rng) -> None:
    truth, found = [], []
    durations = rng.integers(30, 75, 15) * 2
    for qid in range(30):
        duration = int(durations[qid // 2])
        windows = []
        for _ in range(int(rng.integers(1, 4))):
            start = int(rng.integers(0, duration // 2 - 2)) * 2
            windows.append([start, min(duration, start + 2 * int(rng.choice([2, 4, 10, 30])))])
        clips = sorted({clip for start, end in windows for clip in range(start // 2, end // 2)})
        truth.append(
            {
                "qid": qid,
                "query": f"query {qid}",
                "vid": f"video_{qid // 2}",
                "duration": duration,
                "relevant_windows": windows,
                "relevant_clip_ids": clips,
                "saliency_scores": rng.integers(0, 5, (len(clips), 3)).tolist(),
            }
        )
        rows = [[*np.add(windows[i % len(windows)], rng.normal(0, 4, 2)).round(2).tolist()] for i in range(4)]
        rows += [[s, s + 20.0] for s in rng.uniform(0, duration, 9).round(2).tolist()]
        rows = [sorted(rows[i]) for i in rng.permutation(len(rows))]
        scores = rng.permutation(len(rows)) / 20  # not in descending order
        found.append(
            {
                "qid": qid,
                "query": f"query {qid}",
                "vid": f"video_{qid // 2}",
                "pred_relevant_windows": [[*row, float(score)] for row, score in zip(rows, scores)],
                "pred_saliency_scores": rng.normal(0, 1, duration // 2).round(4).tolist(),
            }
        )
    write_lines("moments_truth.jsonl", truth)
    write_lines("moments_found.jsonl", found)
    # One moment per query, predictions in descending order: what Charades-STA and its kind are scored on.
    single = [row | {"relevant_windows": row["relevant_windows"][:1]} for row in truth]
    ranked = [
        {
            "qid": row["qid"],
            "pred_relevant_windows": sorted(row["pred_relevant_windows"], key=lambda w: -w[2]),
        }
        for row in found
    ]
    write_lines("single_moments_truth.jsonl", single)
    write_lines("single_moments_found.jsonl", ranked)
    # DiDeMo: 21 possible moments, all ranked; four annotators.
    possible = [[first, last] for first in range(6) for last in range(first, 6)]
    truth, found = [], []
    for qid in range(20):
        right = possible[int(rng.integers(21))]
        times = [right if rng.uniform() < 0.7 else possible[int(rng.integers(21))] for _ in range(4)]
        order = [possible[i] for i in rng.permutation(21)]
        if rng.uniform() < 0.6:
            order = [right, *(chunks for chunks in order if chunks != right)]
        truth.append(
            {
                "annotation_id": qid,
                "video": f"{qid}.mov",
                "description": f"d {qid}",
                "times": times,
                "num_segments": 6,
            }
        )
        windows = [[5.0 * first, 5.0 * last + 5.0, (21 - i) / 21] for i, (first, last) in enumerate(order)]
        found.append({"qid": qid, "pred_relevant_windows": windows})
    write("didemo_truth.json", truth)
    write_lines("didemo_found.jsonl", found)


def write_highlights(rng) -> None:
    for name, annotators in (("tvsum", 20), ("youtube", 1)):
        truth, found = [], []
        for number in range(8):
            clips = int(rng.integers(20, 30))
            common = rng.normal(0, 1, (clips, 1))
            noisy = common + rng.normal(0, 1, (clips, annotators))
            label = np.clip(np.round(3 + noisy), 1, 5) if annotators > 1 else (noisy > 0.8)
            key = f"{name}_{number}"
            truth.append(
                {"qid": key, "vid": key, "domain": "AB"[number % 2], "label": label.astype(int).tolist()}
            )
            scores = common[:, 0] + rng.normal(0, 1, clips)
            found.append({"qid": key, "pred_saliency_scores": scores.round(5).tolist()})
        write_lines(f"{name}_truth.jsonl", truth)
        write_lines(f"{name}_found.jsonl", found)


def write_frames(rng) -> None:
    rows, scored = [], []
    for number in range(6):
        parts = [(int(rng.integers(0, 6)), int(rng.integers(5, 30))) for _ in range(8)]
        labels = np.concatenate([np.full(length, label) for label, length in parts])
        shifted = np.roll(labels, int(rng.integers(-6, 7)))
        wrong = rng.integers(0, 6, len(labels))
        noisy = np.where(
            np.repeat(rng.uniform(size=len(labels) // 7 + 1) < 0.2, 7)[: len(labels)], wrong, shifted
        )
        rows.append({"seq": f"s{number}", "gt": labels.tolist(), "pred": noisy.tolist()})
    for number in range(3):
        labels = np.repeat(rng.integers(0, 5, 8), 5)
        logits = (rng.normal(-1, 1, (40, 4)) + 3 * np.eye(5)[labels][:, 1:]).round(2)
        scored.append({"video_id": f"c{number}", "gt": labels.tolist(), "scores": logits.tolist()})
    write_lines("frames.jsonl", rows)
    write_lines("frames_scored.jsonl", scored)


# --- official programs


def module(path: Path, name: str, **replaced) -> types.ModuleType:
    """A file of Python 2 or 3 as a module; `replaced` are modules that it imports and that are not there."""
    text = path.read_text()
    text = re.sub(r"^(\s*)print ([^(].*)$", r"\1print(\2)", text, flags=re.MULTILINE)
    text = text.replace("iteritems()", "items()").replace("import urllib2\n", "").replace("xrange", "range")
    replaced["joblib"] = joblib
    before = {key: sys.modules.get(key) for key in replaced}
    sys.modules.update(replaced)
    made = types.ModuleType(name)
    made.__file__ = str(path)
    sys.modules[name] = made
    exec(compile(text, str(path), "exec"), made.__dict__)
    for key, value in before.items():
        sys.modules.pop(key) if value is None else sys.modules.__setitem__(key, value)
    return made


def actions(clones: Path) -> dict:
    folder = clones / "ActivityNet/Evaluation"
    utils = module(folder / "utils.py", "anet_utils")
    official = module(folder / "eval_detection.py", "anet_detection", utils=utils)
    truth, found = str(HERE / "actions_truth.json"), str(HERE / "actions_found.json")
    run = official.ANETdetection(
        truth, found, tiou_thresholds=np.linspace(0.5, 0.95, 10), subset="validation", check_status=False
    )
    run.evaluate()
    result = {"official": {"mAP": run.mAP.tolist(), "average_mAP": float(run.average_mAP)}}
    result["official"]["per_class_AP"] = {
        name: run.ap[:, i].tolist() for name, i in run.activity_index.items()
    }
    result["opentad"] = opentad(clones, truth, found, np.arange(0.5, 0.96, 0.05).round(2).tolist())
    result["actionformer"] = actionformer(clones, truth, found, np.linspace(0.5, 0.95, 10))
    return result


def opentad(clones: Path, truth: str, found: str, thresholds) -> dict:
    folder = clones / "OpenTAD/opentad/evaluations"

    class Registry:
        def __init__(self, name): ...
        def register_module(self):
            return lambda kind: kind

    registry = types.ModuleType("mmengine.registry")
    registry.Registry = Registry
    package = types.ModuleType("opentad_evaluations")
    package.__path__ = [str(folder)]
    sys.modules |= {
        "opentad_evaluations": package,
        "mmengine": types.ModuleType("mmengine"),
        "mmengine.registry": registry,
    }
    program = importlib.import_module("opentad_evaluations.mAP")
    run = program.mAP(truth, found, "validation", thresholds, top_k=[1, 5], thread=2)
    values = run.evaluate()
    return (
        {name: float(value) for name, value in values.items()}
        | {"segments": len(run.ground_truth)}
        | {"recall": np.asarray(run.mRecall if hasattr(run, "mRecall") else run.recall.mean(axis=2)).tolist()}
    )


def actionformer(clones: Path, truth: str, found: str, thresholds) -> dict:
    program = module(clones / "actionformer_release/libs/utils/metrics.py", "actionformer_metrics")
    with tempfile.TemporaryDirectory() as folder:
        numbered = with_label_ids(Path(truth), Path(folder))
        run = program.ANETdetection(numbered, "validation", thresholds, label="label_id", num_workers=1)
    rows = [
        (video, *row["segment"], CLASSES.index(row["label"]), row["score"])
        for video, of_video in json.loads(Path(found).read_text())["results"].items()
        for row in of_video
    ]
    names = ("video-id", "t-start", "t-end", "label", "score")
    columns = dict(zip(names, map(np.array, zip(*rows))))
    mean, average, recall = run.evaluate(columns, verbose=False)
    return {
        "mAP": mean.tolist(),
        "average_mAP": float(average),
        "recall": recall.tolist(),
        "segments": len(run.ground_truth),
    }


def with_label_ids(path: Path, folder: Path) -> str:
    """A copy of a file whose rows have the number of their class besides."""
    content = json.loads(path.read_text())
    for of_video in content["database"].values():
        for row in of_video["annotations"]:
            row["label_id"] = CLASSES.index(row["label"])
    copy = folder / path.name
    copy.write_text(json.dumps(content))
    return str(copy)


def proposals(clones: Path) -> dict:
    folder = clones / "ActivityNet/Evaluation"
    utils = module(folder / "utils.py", "anet_utils")
    official = module(folder / "eval_proposal.py", "anet_proposal", utils=utils)
    run = official.ANETproposal(
        str(HERE / "actions_truth.json"),
        str(HERE / "actions_found.json"),
        tiou_thresholds=np.linspace(0.5, 0.95, 10),
        max_avg_nr_proposals=100,
        subset="validation",
        check_status=False,
    )
    run.evaluate()
    area = np.trapezoid(run.avg_recall, run.proposals_per_video)
    return {
        "AUC": float(100 * area / run.proposals_per_video[-1]),
        **{f"AR@{n}": float(100 * run.recall[:, n - 1].mean()) for n in (1, 5, 10, 100)},
    }


def thumos14(clones: Path) -> dict:
    folder = clones / "ActivityNet/Evaluation"
    truth, found = str(HERE / "actions_truth.json"), str(HERE / "actions_found.json")
    official = module(
        folder / "eval_detection.py", "anet_detection", utils=module(folder / "utils.py", "anet_utils")
    )
    run = official.ANETdetection(
        truth, found, tiou_thresholds=np.linspace(0.3, 0.7, 5), subset="validation", check_status=False
    )
    run.evaluate()
    return {
        "activitynet": {"mAP": run.mAP.tolist(), "average_mAP": float(run.average_mAP)},
        "opentad": opentad(clones, truth, found, [0.3, 0.4, 0.5, 0.6, 0.7]),
        "actionformer": actionformer(clones, truth, found, np.linspace(0.3, 0.7, 5)),
        "devkit": devkit(clones),
    }


def devkit(clones: Path) -> dict:
    """The Python port of TH14evalDet_Updated.m; its text files are written from ours."""
    text = Path(clones / "th14_port.py").read_text()
    classes = np.array(CLASSES)
    content = json.loads((HERE / "actions_truth.json").read_text())
    events = {name: [] for name in (*CLASSES, "Ambiguous")}
    for video, value in content["database"].items():
        if value["subset"] == "validation":
            for row in value["annotations"]:
                events[row["label"]].append((video, *row["segment"]))
    for video, regions in content["ambiguous"].items():
        events["Ambiguous"] += [(video, *region) for region in regions]
    rows = [
        (video, *row["segment"], 1 + CLASSES.index(row["label"]), row["score"])
        for video, of_video in json.loads((HERE / "actions_found.json").read_text())["results"].items()
        for row in of_video
    ]
    columns = lambda table: [np.array(column) for column in zip(*table)]
    helper = types.ModuleType("th14_utils")
    helper.textread1 = lambda path: columns(rows)
    helper.textread2 = lambda path: (np.arange(1, 1 + len(CLASSES)), classes)
    helper.textread3 = lambda path: columns(events[Path(path).name.split("_")[0]])
    helper.intervaloverlapvalseconds = overlap
    path = clones / "th14_port_here.py"
    path.write_text(text.replace("if not osp.exists", "if False and not osp.exists"))
    port = module(path, "th14", utils=helper)
    result = {}
    for threshold in DEVKIT_TIOU:
        _, average_precisions, mean = port.TH14evalDet_Updated("", "", "test", threshold)
        result[str(threshold)] = {
            "mAP": float(mean),
            "AP": dict(zip(CLASSES, map(float, average_precisions))),
        }
    return result


def overlap(truth, found):
    """intervaloverlapvalseconds of the devkit: intersection over union [truth, found]."""
    left = np.maximum(truth[:, None, 0], found[None, :, 0])
    right = np.minimum(truth[:, None, 1], found[None, :, 1])
    shared = np.maximum(right - left, 0)
    lengths = lambda x: x[:, 1] - x[:, 0]
    union = lengths(truth)[:, None] + lengths(found)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def detad(clones: Path) -> dict:
    folder = clones / "DETAD/src"
    utils = module(folder / "utils.py", "detad_utils")
    program = module(folder / "action_detector_diagnosis.py", "detad", utils=utils)
    run = program.ActionDetectorDiagnosis(
        str(HERE / "actions_truth.json"),
        str(HERE / "actions_found_in_known_videos.json"),
        tiou_thresholds=np.array([0.5]),
        limit_factor=10,
        min_tiou_thr=0.1,
        subset="validation",
        normalize_ap=True,
    )
    run.evaluate()
    run.diagnose()
    return {
        "average_mAP_N": float(run.average_mAP),
        "predictions": len(run.prediction),
        "fp_error_counts": {name: int(count) for name, count in run.fp_error_types_count[0.5].items()},
        "average_mAP_gain": {name: float(value) for name, value in run.average_mAP_gain.items()},
    }


def standalone(clones: Path):
    sys.path.insert(0, str(clones / "moment_detr"))
    return importlib.import_module("standalone_eval.eval")


def qvhighlights(clones: Path) -> dict:
    return standalone(clones).eval_submission(
        lines("moments_found.jsonl"), lines("moments_truth.jsonl"), verbose=False
    )


def moments(clones: Path) -> dict:
    truth, found = lines("single_moments_truth.jsonl"), lines("single_moments_found.jsonl")
    fake = types.ModuleType("jax")
    fake.numpy = np
    scenic = module(clones / "scenic/metrics.py", "scenic_metrics", jax=fake, **{"jax.numpy": np})
    windows = [np.array(row["pred_relevant_windows"]) for row in found]
    recall = scenic.compute_recall_at_k(
        [np.array(row["relevant_windows"][0]) for row in truth],
        [rows[:, :2] for rows in windows],
        [rows[:, 2] for rows in windows],
        [1, 5, 10],
        [0.3, 0.5, 0.7],
    )
    config = types.SimpleNamespace(
        TEST=types.SimpleNamespace(TIOU="0.3,0.5,0.7", RECALL="1,5", NMS_THRESH=0.49)
    )
    core = types.ModuleType("core.config")
    core.config, core.update_config = config, None
    tan = module(
        clones / "VideoX/2D-TAN/lib/core/eval.py",
        "tan",
        core=types.ModuleType("core"),
        **{"core.config": core},
    )
    values, _ = tan.eval(
        [rows[:, :2].tolist() for rows in windows], [{"times": row["relevant_windows"][0]} for row in truth]
    )
    official = standalone(clones).eval_moment_retrieval(
        [row | {"vid": ""} for row in found], [row | {"vid": ""} for row in truth], verbose=False
    )
    return {
        "unloc": {name: float(value) for name, value in recall.items()},
        "2d-tan": (100 * values).tolist(),
        "moment-detr": official["full"],
    }


def didemo(clones: Path) -> dict:
    helper = types.ModuleType("utils")
    program = module(clones / "LocalizingMoments/utils/eval.py", "didemo", utils=helper)
    segments = [
        [(round(start / 5), round(end / 5) - 1) for start, end, _ in row["pred_relevant_windows"]]
        for row in lines("didemo_found.jsonl")
    ]
    values = program.eval_predictions(segments, json.loads((HERE / "didemo_truth.json").read_text()))
    return dict(zip(("rank1", "rank5", "miou"), map(float, values)))


def highlights(clones: Path) -> dict:
    """UMT's own `evaluate`, with NumPy under the names of PyTorch (its median is the lower one)."""

    class Tensor(np.ndarray):
        def __new__(cls, values):
            return np.asarray(values, np.float32).view(cls)

        def median(self):
            return np.sort(np.asarray(self).ravel())[(self.size - 1) // 2]

    torch = types.ModuleType("torch")
    torch.Tensor, torch.where = Tensor, np.where
    torch.argsort = lambda values, descending: np.argsort(-np.asarray(values), kind="stable")
    register = types.SimpleNamespace(register=lambda: lambda kind: kind)
    nncore = types.ModuleType("nncore")
    nncore.to_dict_of_list = lambda blob: blob
    parts = {"nncore.dataset": {"DATASETS": register}, "nncore.parallel": {"DataContainer": None}}
    replaced = {
        "torch": torch,
        "nncore": nncore,
        "torch.utils": types.ModuleType("u"),
        "torch.utils.data": types.ModuleType("d"),
    }
    replaced["torch.utils.data"].Dataset = object
    for name, values in parts.items():
        replaced[name] = types.ModuleType(name)
        replaced[name].__dict__.update(values)
    package = types.ModuleType("umt")
    package.__path__ = []
    split_names = types.ModuleType("umt.utils")
    split_names.TVSUM_SPLITS = split_names.YOUTUBE_SPLITS = {}
    sys.modules |= {"umt": package, "umt.utils": split_names}
    tvsum = module(clones / "UMT/datasets/tvsum.py", "umt.tvsum", **replaced, **{"umt.utils": split_names})
    youtube = module(clones / "UMT/datasets/youtube.py", "umt.youtube", **replaced)
    result = {}
    for name, kind, key in (("tvsum", tvsum.TVSum, "anno"), ("youtube", youtube.YouTubeHighlights, "match")):
        truth, found = lines(f"{name}_truth.jsonl"), lines(f"{name}_found.jsonl")
        scores = {row["qid"]: row["pred_saliency_scores"] for row in found}
        for domain in "AB":
            run = kind.__new__(kind)
            ids = [row["vid"] for row in truth if row["domain"] == domain]
            run.label = {
                row["vid"]: {key: row["label"] if key == "anno" else [one for (one,) in row["label"]]}
                for row in truth
            }
            run.video_id, run.state = {"val": ids}, "val"
            value = run.evaluate({"saliency": [[scores[video]] for video in ids]})["mAP"]
            result.setdefault(name, {})[domain] = float(value)
    return result


def segmentation(clones: Path) -> dict:
    numba = types.ModuleType("numba")
    numba.jit, numba.int64, numba.boolean = (lambda signature: lambda function: function), None, None
    helper = types.ModuleType("utils")
    spec = clones / "TemporalConvolutionalNetworks/code/utils.py"
    text = re.search(r"def segment_labels.*?(?=\n\n\n|\ndef unpad|\Z)", spec.read_text(), re.DOTALL)
    exec("import numpy as np\n" + text[0], helper.__dict__)
    intervals = re.search(r"def segment_intervals.*?(?=\ndef |\Z)", spec.read_text(), re.DOTALL)
    exec(intervals[0], helper.__dict__)
    tcn = module(clones / "TemporalConvolutionalNetworks/code/metrics.py", "tcn", numba=numba, utils=helper)
    mstcn = module(clones / "ms-tcn/eval.py", "mstcn")
    rows = lines("frames.jsonl")
    truth, found = [np.array(row["gt"]) for row in rows], [np.array(row["pred"]) for row in rows]
    result = {}
    for name, background in (("0", 0), ("none", None)):
        values = {
            "accuracy": tcn.accuracy(found, truth),
            "edit": tcn.edit_score(found, truth, True, background),
        }
        values |= {f"F1@{k}": tcn.overlap_f1(found, truth, 6, background, k / 100) for k in (10, 25, 50)}
        result[f"tcn, background {name}"] = {key: float(value) for key, value in values.items()}
        labels = [] if background is None else ["0"]
        texts = [([str(x) for x in p], [str(x) for x in y]) for p, y in zip(found, truth)]
        values = {"accuracy": 100 * float(np.mean(np.concatenate(found) == np.concatenate(truth)))}
        values["edit"] = float(np.mean([mstcn.edit_score(p, y, bg_class=labels) for p, y in texts]))
        for k in (10, 25, 50):
            tp, fp, fn = np.sum([mstcn.f_score(p, y, k / 100, labels) for p, y in texts], axis=0)
            precision, recall = tp / (tp + fp), tp / (tp + fn)
            values[f"F1@{k}"] = float(100 * 2 * precision * recall / (precision + recall))
        result[f"ms-tcn, background {name}"] = values
    return result


def coin(clones: Path) -> dict:
    fake = types.ModuleType("jax")
    fake.numpy = np
    scenic = module(clones / "scenic/metrics.py", "scenic_metrics", jax=fake, **{"jax.numpy": np})
    rows = lines("frames_scored.jsonl")
    labels = np.concatenate([row["gt"] for row in rows])
    return {
        "frame_accuracy": float(
            scenic.frame_accuracy(np.concatenate([row["scores"] for row in rows]), np.eye(5)[labels][:, 1:])
        )
    }


def lines(name: str) -> list[dict]:
    return [json.loads(line) for line in (HERE / name).read_text().splitlines()]


def write(name: str, content, indent=None) -> None:
    (HERE / name).write_text(json.dumps(content, indent=indent) + "\n")


def write_lines(name: str, rows) -> None:
    (HERE / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
