"""`unloc merge`, and `unloc submission`."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unloc_jax.cli import main
from unloc_jax.metrics.ensembling import fused

SEGMENTS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(1, 20), st.integers(1, 1000)),
    max_size=8,
    unique_by=lambda s: s[2],
)


@given(SEGMENTS, st.integers(1, 4), st.sampled_from([0.3, 0.7, 1.0]))
def test_copies_change_nothing(rows, copies, threshold):
    segments = np.array([(start, start + length) for start, length, _ in rows], float).reshape(-1, 2)
    score = np.array([value / 1000 for _, _, value in rows])
    every = np.tile(segments, (copies, 1)), np.tile(score, copies), np.repeat(np.arange(copies), len(rows))
    found, scores = fused(*every, np.ones(copies), threshold)
    order = np.argsort(-score, kind="stable")
    np.testing.assert_allclose(scores, score[order], rtol=1e-12)
    np.testing.assert_allclose(found, segments[order], rtol=1e-12)


def test_by_hand():
    segments = np.array([[0, 10], [0, 8], [20, 30], [1, 10]], float)
    score, model = np.array([0.9, 0.3, 0.6, 0.5]), np.array([0, 1, 1, 1])
    found, scores = fused(segments, score, model, np.array([2.0, 1.0]), 0.5)
    # The first takes [1, 10] of the other model (0.9 of it), not [0, 8]; a third of the weight is the other's.
    assert scores == pytest.approx([0.6 + 0.5 / 3, 0.2, 0.1])
    first = (0.6 * np.array([0, 10]) + 0.5 / 3 * np.array([1, 10])) / (0.6 + 0.5 / 3)
    np.testing.assert_allclose(found, [first, [20, 30], [0, 8]])


def results(tmp_path, name, **videos):
    path = tmp_path / name
    rows = {
        video: [
            {"label": label, "segment": [s, e], "score": score, "level": 1} for label, s, e, score in of_video
        ]
        for video, of_video in videos.items()
    }
    path.write_text(json.dumps({"results": rows}))
    return str(path)


def lines(tmp_path, name, *rows):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_actions_and_thresholds(tmp_path):
    a = results(tmp_path, "a.json", v=[("run", 0, 10, 0.8), ("sit", 0, 5, 0.4)])
    b = results(tmp_path, "b.json", v=[("run", 0, 10, 0.4)], w=[("sit", 1, 2, 0.6)])
    least = tmp_path / "least.json"
    least.write_text(json.dumps({"sit": 0.25}))
    out = tmp_path / "out.json"
    assert main(["merge", "--predictions", a, b, f"--out={out}", f"--thresholds={least}"]) == 0
    merged = json.loads(out.read_text())["results"]
    assert [(row["label"], row["segment"]) for row in merged["v"]] == [("run", [0, 10])]
    assert merged["v"][0]["score"] == pytest.approx(0.6) and merged["w"][0]["score"] == pytest.approx(0.3)


def test_moments(tmp_path):
    row = {"qid": 1, "vid": "v", "query": "x", "relevant_windows": [[0, 4]]}
    a = lines(
        tmp_path,
        "a.jsonl",
        row | {"pred_relevant_windows": [[0, 4, 0.8]], "pred_saliency_scores": [1, 3], "pred_levels": [0]},
    )
    b = lines(
        tmp_path,
        "b.jsonl",
        row | {"pred_relevant_windows": [[0, 4, 0.2], [8, 9, 0.5]], "pred_saliency_scores": [3, 3]},
        row | {"qid": 2, "pred_relevant_windows": [[0, 4, 0.2]]},
    )
    out = tmp_path / "out.jsonl"
    assert main(["merge", "--predictions", a, b, f"--out={out}", "--weights=3,1"]) == 0
    first, second = map(json.loads, out.read_text().splitlines())
    np.testing.assert_allclose(first["pred_relevant_windows"], [[0, 4, 0.65], [8, 9, 0.125]])
    assert first["pred_saliency_scores"] == [1.5, 3] and first["relevant_windows"] == [[0, 4]]
    assert "pred_levels" not in first and second["pred_relevant_windows"] == [[0, 4, 0.05]]


def test_refused(tmp_path, capsys):
    a = results(tmp_path, "a.json", v=[("run", 0, 10, 0.8)])
    moments = lines(tmp_path, "m.jsonl", {"qid": 1, "pred_relevant_windows": [[0, 4, 0.8]]})
    frames = lines(tmp_path, "f.jsonl", {"video_id": "v", "pred": [1, 2]})
    negative = results(tmp_path, "n.json", v=[("run", 0, 10, -0.8)])
    least = tmp_path / "least.json"
    least.write_text('{"rum": 0.5}')
    cases = [
        ([a], "several files of --predictions, or --thresholds"),
        ([a, moments], "are of different kinds"),
        ([a, frames], "f.jsonl: neither results of actions"),
        ([a, negative], "n.json: scores must not be negative"),
        ([a, a, "--weights=1"], "--weights=1: 2 numbers above 0 are needed"),
        ([a, a, "--iou=0"], "--iou=0.0: a tIoU is above 0"),
        ([a, f"--thresholds={least}"], "'rum' is no class of"),
        ([moments, f"--thresholds={least}"], "thresholds are of classes"),
    ]
    for words, message in cases:
        assert main(["merge", f"--out={tmp_path / 'out'}", "--predictions", *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def submission(tmp_path, challenge, file, *more):
    out = tmp_path / "submission"
    assert (
        main(["submission", f"--challenge={challenge}", f"--predictions={file}", f"--out={out}", *more]) == 0
    )
    return out.read_text()


def epic_classes(tmp_path):
    for kind, names in (("verb", ("take", "put")), ("noun", ("tap", "cutting board"))):
        rows = "".join(f"{i},{name}\n" for i, name in enumerate(names))
        (tmp_path / f"EPIC_100_{kind}_classes.csv").write_text(f"id,key\n{rows}")
    return [
        "--classes",
        *(str(tmp_path / f"EPIC_100_{kind}_classes.csv") for kind in ("verb", "noun")),
        "--levels=2,4,4",
    ]


def test_submissions(tmp_path):
    a = results(tmp_path, "a.json", v_1=[("put cutting board", 0, 10, 0.2), ("take tap", 1, 2, 0.8)])
    told = json.loads(submission(tmp_path, "activitynet", a))
    assert told.keys() == {"version", "results", "external_data"} and list(told["results"]) == ["1"]
    told = json.loads(submission(tmp_path, "ego4d-mq", a))
    assert told["detect_results"] == told["retrieve_results"] and told["challenge"] == "ego4d_moment_queries"
    assert [row["score"] for row in told["retrieve_results"]["v_1"]] == [0.8, 0.2]
    told = json.loads(submission(tmp_path, "epic-kitchens", a, *epic_classes(tmp_path)))
    assert (told["version"], told["challenge"], told["sls_tl"]) == ("0.2", "action_detection", 4)
    assert told["results"]["v_1"][1] == {
        "verb": 1,
        "noun": 1,
        "action": "1,1",
        "score": 0.2,
        "segment": [0, 10],
    }
    row = {"qid": "u-1_2", "vid": "clip", "query": "x", "pred_relevant_windows": [[0, 4, 0.8], [1, 2, 0.1]]}
    (one,) = json.loads(submission(tmp_path, "ego4d-nlq", lines(tmp_path, "n.jsonl", row)))["results"]
    assert one == {
        "clip_uid": "clip",
        "annotation_uid": "u-1",
        "query_idx": 2,
        "predicted_times": [[0, 4], [1, 2]],
    }
    row |= {"qid": 7, "pred_saliency_scores": [0.5], "relevant_windows": []}
    told = json.loads(submission(tmp_path, "qvhighlights", lines(tmp_path, "q.jsonl", row)))
    assert told.keys() == {"qid", "query", "vid", "pred_relevant_windows", "pred_saliency_scores"}


def test_submissions_that_do_not_fit(tmp_path, capsys):
    a = results(tmp_path, "a.json", v=[("run", 0, 10, 0.2)])
    empty = results(tmp_path, "e.json", v=[])
    reversed_one = results(tmp_path, "r.json", v=[("run", 10, 1, 0.2)])
    row = lines(
        tmp_path, "q.jsonl", {"qid": "a", "vid": "v", "query": "x", "pred_relevant_windows": [[0, 4, 0.8]]}
    )
    epic = epic_classes(tmp_path)
    cases = [
        (["activitynett", a], "the challenges are activitynet, ego4d-mq"),
        (["activitynet", empty], "there are no predictions in it"),
        (["activitynet", reversed_one], "0 ≤ start < end is needed, not [10.0, 1.0]"),
        (["activitynet", a, "--levels=1,2,3"], "does not take --levels"),
        (["epic-kitchens", a], "needs --classes"),
        (["epic-kitchens", a, *epic], "'run' is no verb and noun of --classes"),
        (["epic-kitchens", a, *epic[:-1], "--levels=7"], "--levels=7: three numbers from 0 to 5"),
        (["epic-kitchens", a, *epic[:2], "--levels=1,2,3"], "no such file of nouns is given"),
        (["ego4d-nlq", row], "a qid like ANNOTATION-UID_0"),
        (["qvhighlights", row], '"pred_saliency_scores" is needed'),
    ]
    for (challenge, file, *more), message in cases:
        words = [f"--challenge={challenge}", f"--predictions={file}", f"--out={tmp_path / 'out'}", *more]
        assert main(["submission", *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
