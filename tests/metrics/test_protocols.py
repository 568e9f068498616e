"""Every protocol through the command, on small files of ours whose numbers are worked out by hand."""

import importlib
import inspect
import json

import numpy as np
import pytest

from unloc_jax.cli import main
from unloc_jax.metrics.protocols import PROTOCOLS, json_files
from unloc_jax.metrics.protocols.activitynet import evaluate_activitynet
from unloc_jax.metrics.protocols.presets import PRESETS, preset_of
from unloc_jax.metrics.protocols.run import tables


def action(start, end, label=None, score=None):
    row = {"segment": [start, end], "label": label, "score": score}
    return {name: value for name, value in row.items() if value is not None}


def lines(*rows):
    return "\n".join(map(json.dumps, rows))


DATABASE = {
    "database": {
        "a": {"subset": "validation", "annotations": [action(0, 10, "run"), action(20, 30, "run")]},
        "b": {"subset": "validation", "annotations": [action(0, 10, "jump")]},
        "c": {"subset": "training", "annotations": [action(0, 10, "sit")]},
    }
}
RESULTS = {
    "results": {
        "a": [action(0, 10, "run", 0.9), action(40, 50, "run", 0.8), action(20, 26, "run", 0.7)],
        "b": [action(0, 20, "jump", 0.5)],
    }
}
# THUMOS14 as its devkit counts it: the second detection touches an ambiguous region and does not count.
TEST = {
    "database": {
        "a": {"subset": "test", "annotations": [action(0, 10, "run"), action(20, 30, "run")]},
        "b": {"subset": "Test", "annotations": [action(0, 10, "Ambiguous"), action(50, 60, "run")]},
    }
}
TEST_RESULTS = {
    "results": {
        "a": [action(0, 10, "run", 0.9), action(40, 50, "run", 0.7), action(20, 30, "run", 0.6)],
        "b": [action(5, 15, "run", 0.8)],
    }
}
QUERIES = [
    {"qid": 1, "vid": "a", "query": "x", "duration": 40, "relevant_windows": [[0, 10]]},
    {"qid": 2, "vid": "a", "query": "y", "duration": 40, "relevant_windows": [[10, 20], [30, 40]]},
]
WINDOWS = [
    {"qid": 2, "pred_relevant_windows": [[30, 35, 0.9], [10, 20, 0.5]], "pred_saliency_scores": [1, 3, 2, 0]},
    {"qid": 1, "pred_relevant_windows": [[20, 30, 0.9], [0, 10, 0.5]], "pred_saliency_scores": [5, 3, 2, 4]},
]
HIGHLIGHTS = [
    query | {"duration": 8, "relevant_clip_ids": [0, 1], "saliency_scores": [[4, 0, 3], [2, 2, 3]]}
    for query in QUERIES
]
DOMAINS = [
    {"qid": "a", "domain": "DS", "label": [[1, 5], [2, 1], [3, 1], [3, 1]]},
    {"qid": "b", "domain": "VT", "label": [[2, 2], [1, 1], [1, 1]]},
]
CLIPS = [{"qid": "a", "label": [1, 0, 1, -1]}, {"qid": "b", "label": [0, 0, 1]}]
CLIP_SCORES = [
    {"qid": "a", "pred_saliency_scores": [4, 3, 2, 1]},
    {"qid": "b", "pred_saliency_scores": [3, 2, 1]},
]
FRAMES = [
    {"video_id": "a", "labels": [0, 0, 1, 1, 2, 2, 0, 0]},
    {"video_id": "b", "labels": [1, 1, 1, 1]},
]
FRAME_LABELS = [
    {"video_id": "a", "labels": [0, 0, 1, 1, 1, 2, 0, 3]},
    {"video_id": "b", "labels": [2, 2, 2, 1]},
]


def evaluate(tmp_path, protocol, truth, found, *options):
    """The file that the command writes to --out."""
    paths = tmp_path / "truth.json", tmp_path / "found.json"
    for path, content in zip(paths, (truth, found)):
        path.write_text(lines(*content) if isinstance(content, list) else json.dumps(content))
    out = tmp_path / "metrics.json"
    files = ["--ground-truth", str(paths[0]), "--predictions", str(paths[1]), "--out", str(out)]
    status = main(["metrics", "--protocol", protocol, *files, *options])
    return json.loads(out.read_text()) if status == 0 else status


CASES = {
    "activitynet": (
        ("activitynet", DATABASE, RESULTS),
        # run at 0.5: hit, miss, hit (0.6) of two; jump: 0.5, which is ≥ 0.5. From 0.65 on run hits once.
        {
            "mAP@0.50": 50 * (1 + 2 / 3) / 2 + 50,
            "mAP@0.55": 50 * (1 + 2 / 3) / 2,
            "mAP@0.95": 25,
            "videos": 2,
            "ground_truth_segments": 3,
            "predictions": 4,
        },
    ),
    "activitynet proposals": (
        ("activitynet", DATABASE, RESULTS, "--proposals"),
        # All four: of three segments 3 are found at 0.5, 2 at 0.55 and at 0.6 (the third has 0.6), then 1.
        {"AR@100": 100 * (3 + 2 + 2 + 7 * 1) / 30},
    ),
    "thumos14": (
        ("thumos14", TEST, TEST_RESULTS, "--variant", "devkit"),
        # Hit, (ambiguous), miss, hit: precision 1 and 2/3, of three.
        {
            "mAP@0.50": 100 * (1 + 2 / 3) / 3,
            "average_mAP_0.3_0.7": 100 * (1 + 2 / 3) / 3,
            "ambiguous_regions": 1,
        },
    ),
    "thumos14, activitynet": (
        ("thumos14", TEST, TEST_RESULTS),
        {"mAP@0.50": 100 * (1 + 2 / 4) / 3, "average_mAP": 100 * (1 + 2 / 4) / 3, "videos": 2},
    ),
    "moment-retrieval": (
        ("moment-retrieval", QUERIES, WINDOWS),
        {"R1@0.3": 50, "R1@0.5": 50, "R1@0.7": 0, "R5@0.7": 100, "mIoU": 25, "queries": 2},
    ),
    "moment-retrieval, strict": (
        ("moment-retrieval", QUERIES, WINDOWS, "--strict"),
        {"R1@0.3": 50, "R1@0.5": 0, "R5@0.5": 100},
    ),
    "qvhighlights, moments": (
        (
            "qvhighlights",
            QUERIES,
            [{k: v for k, v in row.items() if k != "pred_saliency_scores"} for row in WINDOWS],
        ),
        # Query 1: AP 1/2 at all thresholds. Query 2: at 0.5 both hit, 1; above only the second, 1/2 · 1/2.
        {
            "full": {
                "MR-mAP": {"0.5": 75.0, "0.55": 37.5, "0.95": 37.5, "average": (75 + 9 * 37.5) / 10},
                "MR-R1": {"0.5": 50.0, "0.55": 0.0},
            },
            "middle": {"MR-mAP": {"average": None}},
            "brief": {"MR-full-R1@0.5": 50.0},
        },
    ),
    "qvhighlights, highlights": (
        (
            "qvhighlights",
            HIGHLIGHTS,
            [{k: v for k, v in row.items() if k[:7] != "pred_re"} for row in WINDOWS],
        ),
        # Very good is 4: clip 0 for the first annotator alone. Query 2 scores it third, query 1 first.
        {"HL-min-VeryGood": {"HL-mAP": round(100 * (1 / 3 + 1) / 3 / 2, 2), "HL-Hit1": 50.0}},
    ),
    "tvsum": (
        ("tvsum", DOMAINS, CLIP_SCORES),
        # a: above the lower median (2) are clips 2, 3; for the second annotator clip 0. b: clip 0 for both.
        {
            "per_domain": {"DS": 50 * (0.5 * (0 + 1 / 3) / 2 + 0.5 * (1 / 3 + 2 / 4) / 2 + 1), "VT": 100},
            "videos": 2,
        },
    ),
    "youtube-highlights": (
        ("youtube-highlights", CLIPS, CLIP_SCORES),
        {"mAP_over_videos": 50 * (0.5 + 0.5 * (1 / 2 + 2 / 3) / 2 + (0 + 1 / 3) / 2)},
    ),
    "segmentation": (
        ("segmentation", FRAMES, FRAME_LABELS),
        # Segments without 0: a 1 2 | 1 2 3, b 1 | 2 1. At 25 %: 2 of a, 1 of b (1 of 4 frames); at 50 % 2.
        {
            "accuracy": 100 * 7 / 12,
            "accuracy_without_background": 100 * 4 / 8,
            "edit": 100 * (1 - 1 / 3 + 1 - 1 / 2) / 2,
            "F1@25": 100 * 2 * 3 / (3 + 5),
            "F1@50": 100 * 2 * 2 / (3 + 5),
            "background": "0",
        },
    ),
    "youtube-highlights, scores per 2 seconds": (
        (
            "youtube-highlights",
            [
                {
                    "qid": "a",
                    "fps": 30.0,
                    "frames": 900,
                    "clip": [[50 * k, 50 * k + 100] for k in range(17)],
                    "label": [int(k in (10, 11, 12)) for k in range(17)],
                }
            ],
            [{"qid": "a", "pred_saliency_scores": [0.0] * 9 + [1.0] * 2 + [0.0] * 4}],
        ),
        {"mAP": 100},
    ),
    "tvsum, scores per 2 seconds": (
        (
            "tvsum",
            # Pieces of 4 s, of which the last is the best.
            [{"qid": "a", "duration": 20, "label": [[1, 1], [1, 1], [1, 1], [1, 1], [5, 5]]}],
            [{"qid": "a", "pred_saliency_scores": [0.1 * k for k in range(10)]}],
        ),
        {"mAP": 100},
    ),
    "texts and ids that are written differently": (
        (
            "moment-retrieval",
            {
                "s1.avi": {
                    "timestamps": [[1, 3], [4, 6], [0, 2]],
                    "sentences": ["A bird  sings. ", " A bird\nstops.", "Cafe\u0301\u00a0noise"],
                }
            },
            [
                {"vid": "s1", "query": "A bird sings.", "pred_relevant_windows": [[1, 3]]},
                {"vid": "s1.mp4", "query": "A bird stops.", "pred_relevant_windows": [[4, 6]]},
                {"vid": "s1.avi", "query": "Caf\u00e9 noise", "pred_relevant_windows": [[0, 2]]},
            ],
        ),
        {"R1@0.7": 100, "predicted_queries": 3},
    ),
    "labels and ids that are written differently": (
        (
            "activitynet",
            {"database": {"a.mp4": {"subset": "validation", "annotations": [action(0, 10, " Long  jump")]}}},
            {"results": {"a": [action(0, 10, "Long jump", 0.9)]}},
        ),
        {"average_mAP": 100},
    ),
    "moment-retrieval, YouCook2's own file": (
        (
            "moment-retrieval",
            {
                "database": {
                    "a": {"subset": "validation", "annotations": [{"segment": [0, 10], "sentence": "fry"}]},
                    "b": {"subset": "training", "annotations": [{"segment": [0, 10], "sentence": "fry"}]},
                    "c": {"subset": "validation", "annotations": [{"segment": [0, 10], "sentence": "cut"}]},
                }
            },
            [{"vid": "a", "query": "fry", "pred_relevant_windows": [[0, 10]]}],
        ),
        {"R1@0.7": 50, "queries": 2},
    ),
    "segmentation, COIN's own file": (
        (
            "segmentation",
            {
                "database": {
                    "a": {
                        "subset": "testing",
                        "annotation": [action(0, 4, "boil"), action(3, 6, "pour")],
                    }
                }
            },
            [
                {
                    "video_id": "a",
                    "times_s": [0, 2, 3.5, 5, 7, 8],
                    "pred": ["boil", "pour", "pour", "pour", "background", "boil"],
                }
            ],
        ),
        # At 3.5 s it shows both; wrong are those at 2 and 8 s.
        {"accuracy": 100 * 4 / 6, "accuracy_without_background": 100 * 3 / 4},
    ),
    "classification": (
        (
            "classification",
            [{"video_id": str(number), "label": "run  fast"} for number in range(4)],
            [
                {"video_id": 0, "best": [["run fast", 0.9], ["b", 0.1]]},
                {"video_id": "1.mp4", "best": [["run fast", 0.1], ["b", 0.9]]},
                {"video_id": "2", "best": [[name, 0.5] for name in (*"abcde", "run fast")]},
            ],
        ),
        # The third is sixth; the fourth has no prediction.
        {"top1": 25, "top5": 50, "videos": 4},
    ),
    "per-frame": (
        (
            "per-frame",
            {
                "database": {
                    "a": {"subset": "validation", "duration": 50, "annotations": [action(4, 8, "run")]}
                }
            },
            {"results": {"a": [action(6, 7, "run", 0.9), action(0, 9, "run", 0.5)]}},
        ),
        # Places every 2 s. Best: 6 s, right; then with one score 0, 2, 4 and 8 s, of which the last two are.
        {"mAP": 100 * (1 + 2 / 4 + 3 / 5) / 3, "frames": 25},
    ),
    "gmr": (
        (
            "gmr",
            [
                {"qid": 1, "vid": "a", "query": "x", "duration": 40, "relevant_windows": [[0, 10]]},
                {"qid": 2, "vid": "a", "query": "y", "duration": 40, "relevant_windows": []},
                {"qid": 3, "vid": "a", "query": "z", "duration": 40, "relevant_windows": []},
            ],
            [
                {"qid": 1, "pred_relevant_windows": [[0, 5, 0.7], [20, 30, 0.5]]},
                {"qid": 2, "pred_relevant_windows": [[0, 5, 0.9]], "pred_exist_score": 0.1},
                {"qid": 3, "pred_relevant_windows": [[0, 5, 0.5]]},
            ],
        ),
        # At 0.4 one of two absent queries is rejected, at 0.6 both.
        {
            "AUROC": 100,
            "Rej-F1@0.6": 100,
            "Acc@0.4": 200 / 3,
            "G-mIoU@1": 50,
            "mIoU@1": 50,
            "best_threshold": 0.6,
        },
    ),
    "nextgqa": (
        (
            "nextgqa",
            {"v": {"duration": 30, "location": {"0": [[0, 10]], "1": [[5, 10], [20, 30]]}}},
            {"v_0": [0, 2], "v_1": [15, 25]},
        ),
        {"mIoP": 75, "IoP@0.5": 100, "mIoU": 100 * (2 / 10 + 5 / 15) / 2, "IoU@0.3": 50},
    ),
    "a dataset's name": (
        ("mad", QUERIES, WINDOWS),
        {"R1@0.1": 50, "R100@0.5": 100},
    ),
    "segmentation, tcn": (
        ("segmentation", FRAMES, FRAME_LABELS, "--variant", "tcn"),
        {"accuracy": 100 * (6 / 8 + 1 / 4) / 2, "F1@50": 100 * (2 * 2 / (2 + 3) + 0) / 2},
    ),
}


def assert_holds(found, expected):
    for name, value in expected.items():
        if isinstance(value, dict):
            assert_holds(found[name], value)
        elif value is None or isinstance(value, str):
            assert found[name] == value, name
        else:
            assert found[name] == pytest.approx(value, rel=1e-12), name


@pytest.mark.parametrize("case", CASES)
def test_by_hand(case, tmp_path, capsys):
    arguments, expected = CASES[case]
    found = evaluate(tmp_path, *arguments)
    assert_holds(found, expected)
    # The numbers are on the terminal, and warnings are not among them.
    printed = capsys.readouterr()
    headline = next(value for value in found.get("brief", found).values() if isinstance(value, float))
    assert f"{headline:.2f}" in printed.out and "warning" not in printed.out


def test_every_protocol_is_tried():
    tried = {preset_of(arguments[0]).protocol for arguments, _ in CASES.values()}
    assert tried == {protocol for protocol, _ in PRESETS.values()} | set(PROTOCOLS) == set(PROTOCOLS)


def test_options_of_datasets_exist():
    for protocol, options in PRESETS.values():
        module, name = PROTOCOLS[protocol]
        function = getattr(importlib.import_module(f"unloc_jax.metrics.protocols.{module}"), name)
        assert options.keys() <= inspect.signature(function).parameters.keys()


def test_scores_instead_of_labels(tmp_path):
    """As UnLoc predicts COIN: the best class where its score is above 0, otherwise background."""
    scores = [[-1, -2], [2, 1], [0, -1], [1, 3]]
    truth = [{"video_id": "a", "labels": [0, 1, 2, 2]}]
    found = evaluate(tmp_path, "segmentation", truth, [{"video_id": "a", "scores": scores}])
    assert found["accuracy"] == 75
    # Class 1: the only frame is the best. Class 2 (scores −2, 1, −1, 3): first and third of four.
    assert found["mAP"] == pytest.approx(100 * (1 + (1 + 2 / 3) / 2) / 2)


def test_datasets_own_ground_truths(tmp_path):
    """A Charades-STA text, ActivityNet Captions, TACoS's frames and DiDeMo's chunks give the same windows."""
    found = [
        {"vid": "a", "query": "x", "pred_relevant_windows": [[0, 10, 1]]},
        {"vid": "a", "query": "y", "pred_relevant_windows": [[10, 15, 1]]},
    ]
    (tmp_path / "found.jsonl").write_text(lines(*found))
    captions = {"a": {"timestamps": [[0, 10], [10, 20]], "sentences": [" x", "y"]}}
    frames = {"a": {"timestamps": [[0, 250], [250, 500]], "sentences": ["x", "y"], "fps": 25.0}}
    didemo = [
        {"annotation_id": 5, "video": "a", "description": "x", "times": [[0, 1]]},
        {"annotation_id": 6, "video": "a", "description": "y", "times": [[2, 3]]},
    ]
    for name, content in {
        "charades.txt": "a 0.0 10.0##x\na 10.0 20.0##y\n",
        "captions.json": json.dumps(captions),
        "tacos.json": json.dumps(frames),
        "didemo.json": json.dumps(didemo),
    }.items():
        (tmp_path / name).write_text(content)
        if name == "didemo.json":
            by_id = [row | {"annotation_id": 5 + i} for i, row in enumerate(found)]
            (tmp_path / "found.jsonl").write_text(lines(*by_id))
        files = ["--ground-truth", str(tmp_path / name), "--predictions", str(tmp_path / "found.jsonl")]
        out = tmp_path / "metrics.json"
        assert main(["metrics", "--protocol", "moment-retrieval", *files, "--out", str(out)]) == 0
        metrics = json.loads(out.read_text())
        assert (metrics["R1@0.5"], metrics["R1@0.7"], metrics["mIoU"]) == (100, 50, 75), name
    # Chunks 2 to 3 were predicted as chunk 2 alone.
    assert (metrics["Rank@1"], metrics["DiDeMo mIoU"]) == (50, 75)


def test_thumos14_devkit_files(tmp_path):
    """The folder of texts and the text of detections give the same as the JSON files."""
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "LongJump_test.txt").write_text("a 0 10\na 20 30\nb 50 60\n")
    (tmp_path / "truth" / "Ambiguous_test.txt").write_text("b 0 10\n")
    (tmp_path / "found.txt").write_text("a.mp4 0 10 51 0.9\nb 5 15 51 0.8\na 40 50 51 0.7\na 20 30 51 0.6\n")
    files = ["--ground-truth", str(tmp_path / "truth"), "--predictions", str(tmp_path / "found.txt")]
    out = tmp_path / "metrics.json"
    assert main(["metrics", "--protocol", "thumos14", "--variant", "devkit", *files, "--out", str(out)]) == 0
    metrics = json.loads(out.read_text())
    assert metrics["mAP@0.50"] == pytest.approx(100 * (1 + 2 / 3) / 3)
    assert metrics["per_class_AP"].keys() == {"LongJump"}


def test_mstcn_folders(tmp_path):
    for folder, suffix, separator in (("truth", ".txt", "\n"), ("found", "", " ")):
        (tmp_path / folder).mkdir()
        for row in FRAMES if folder == "truth" else FRAME_LABELS:
            names = separator.join(f"step{label}" if label else "background" for label in row["labels"])
            title = "### Frame level recognition: ###\n" if folder == "found" else ""
            (tmp_path / folder / f"{row['video_id']}{suffix}").write_text(title + names)
    files = ["--ground-truth", str(tmp_path / "truth"), "--predictions", str(tmp_path / "found")]
    out = tmp_path / "metrics.json"
    assert main(["metrics", "--protocol", "segmentation", *files, "--out", str(out)]) == 0
    assert_holds(json.loads(out.read_text()), CASES["segmentation"][1] | {"background": "background"})


def recall_one_by_one(truth, found, budget_per_video):
    """Average recall when each video may keep the given share of its proposals; the slow peer of `average_recall`."""
    recalls = []
    for threshold in np.linspace(0.5, 0.95, 10):
        hits = total = 0
        for video, segments in truth.items():
            kept = sorted(found.get(video, []), key=lambda row: -row[2])[: budget_per_video(video)]
            for start, end in segments:
                ious = [
                    max(min(end, e) - max(start, s), 0) / (max(end, e) - min(start, s)) for s, e, _ in kept
                ]
                hits += max(ious, default=0) >= threshold
                total += 1
        recalls.append(hits / total)
    return 100 * np.mean(recalls)


def test_proposals_one_by_one(tmp_path):
    rng = np.random.default_rng(3)
    spans = lambda n: np.sort(rng.uniform(0, 30, (n, 2)), axis=1).tolist()
    truth = {f"v{i}": spans(rng.integers(1, 4)) for i in range(12)}
    found = {f"v{i}": [(*span, rng.random()) for span in spans(rng.integers(1, 60))] for i in range(2, 12)}
    database = {
        video: {"subset": "validation", "annotations": [action(*span, "x") for span in rows]}
        for video, rows in truth.items()
    }
    results = {
        video: [action(start, end, score=score) for start, end, score in rows]
        for video, rows in found.items()
    }
    (tmp_path / "truth.json").write_text(json.dumps({"database": database}))
    (tmp_path / "found.json").write_text(json.dumps({"results": results}))
    with pytest.warns(match="2 of 12 videos have no predictions"):
        metrics = evaluate_activitynet(tmp_path / "truth.json", tmp_path / "found.json", proposals=True)
    total = sum(map(len, found.values()))
    for n in (1, 5, 10, 100):
        share = n * len(truth) / total
        budget = lambda video, share=share: int(min(share, 1) * len(found.get(video, [])))
        assert metrics[f"AR@{n}"] == pytest.approx(recall_one_by_one(truth, found, budget)), n
    assert metrics["AR@1"] < metrics["AR@10"] < metrics["AR@100"]


def test_files_are_read_in_pieces_of_any_size(tmp_path, monkeypatch):
    content = {
        "version": "1.3",
        "results": {"ä": [1, 2.5e-3, {"b": "]}"}], "c": [], "d": 12345},
        "last": None,
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")
    expected = [("version", None, "1.3")]
    expected += [("results", *item) for item in content["results"].items()]
    expected += [("last", None, None)]
    for size in (1, 2, 7, 1000):
        monkeypatch.setattr(json_files, "_CHUNK", size)
        assert list(json_files.read_members(path, "results")) == expected


def test_tables():
    metrics = {
        "mAP": 12.345,
        "nothing": float("nan"),
        "mAP@0.50": 1.0,
        "recall@0.50@5": 2.0,
        "mAP@0.75": 3.0,
        "per_class_AP": {"x": [1.0]},
        "full": {"MR-mAP": {"0.5": 4.0, "average": 5.0}, "MR-R1": {"0.5": 6.0}},
    }
    assert "\n".join(" ".join(line.split()) for line in tables(metrics)) == (
        "mAP 12.35\nnothing -\n\n0.50 0.75\nmAP 1.00 3.00\nrecall@5 2.00\n\n0.5 average\nfull MR-mAP 4.00 5.00"
        "\nfull MR-R1 6.00"
    )


def test_thresholds_can_be_chosen(tmp_path, capsys):
    truth, found, out = tmp_path / "truth.json", tmp_path / "found.json", tmp_path / "out.json"
    truth.write_text(json.dumps(DATABASE))
    found.write_text(json.dumps(RESULTS))
    command = [
        "metrics",
        "--protocol",
        "activitynet",
        "--ground-truth",
        str(truth),
        "--predictions",
        str(found),
    ]
    assert main([*command, "--tiou", "0.1:0.1:0.5", "--out", str(out)]) == 0
    low = json.loads(out.read_text())
    assert low["tiou_thresholds"] == [0.1, 0.2, 0.3, 0.4, 0.5]
    # "run" is hit first and third, at 1 and 0.6; "jump" at 0.5.
    ap = (1 + (1 + 2 / 3) / 2) / 2 * 100
    assert [low[f"mAP@0.{digit}0"] for digit in range(1, 6)] == pytest.approx([ap] * 5)
    assert low["average_mAP"] == pytest.approx(ap)
    assert main([*command, "--tiou", "0.5,0.7", "--variant", "opentad", "--out", str(out)]) == 0
    high = json.loads(out.read_text())
    assert (high["mAP@0.50"], high["mAP@0.70"]) == pytest.approx((ap, 25))
    assert high["average_mAP"] == pytest.approx((ap + 25) / 2)
    assert {"recall@0.50@1", "recall@0.70@5"} <= high.keys()
    default = evaluate_activitynet(truth, found)
    assert evaluate_activitynet(truth, found, tiou="0.5:0.05:0.95") == default
    capsys.readouterr()


@pytest.mark.parametrize(
    "tiou",
    [
        "",
        "x",
        "0.5:0.1",
        "0.1:0:0.5",
        "0.1:0.1:0.55",
        "0:0.1:0.5",
        "0.5,0.3",
        "0.123",
        "1.1",
        "nan",
        "0.1:1e-9:0.5",
    ],
)
def test_thresholds_that_make_no_sense(tiou, tmp_path, capsys):
    (tmp_path / "truth.json").write_text(json.dumps(DATABASE))
    files = ["--ground-truth", str(tmp_path / "truth.json"), "--predictions", str(tmp_path / "truth.json")]
    assert main(["metrics", "--protocol", "activitynet", *files, "--tiou", tiou]) == 2
    assert capsys.readouterr().err.startswith(f"unloc: error: --tiou={tiou}: thresholds look like")
    assert main(["metrics", "--protocol", "thumos14", "--variant", "devkit", *files, "--tiou", "0.5"]) == 2
    assert "the thresholds of --variant devkit are fixed" in capsys.readouterr().err
