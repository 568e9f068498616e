"""The protocols of datasets: against the evaluators' stored numbers (tests/goldens/official/make_datasets.py).

Where none could be run, the published definition is computed here one by one.
"""

import json

import numpy as np
import pytest

from data_pipelines.ground_truth import read_ground_truth
from tests.metrics.test_official_small import ACTIONS, EXACT, EXPECTED, FOLDER, SINGLE, maps_of
from unloc_jax.errors import UserError
from unloc_jax.metrics.generalized_retrieval import matched_ious
from unloc_jax.metrics.presence import auroc, calibrate, rejection_scores
from unloc_jax.metrics.protocols.run import measure

pytestmark = pytest.mark.filterwarnings("ignore::unloc_jax.metrics.checks.InputWarning")


@pytest.fixture(autouse=True)
def quiet(capsys):
    """Warnings of the protocols go to stderr."""


def actions_with(tmp_path, change, change_found=lambda rows: rows):
    """Changed copies of the files of actions: `change` is of a ground truth's rows."""
    truth, found = (json.loads(path.read_text()) for path in ACTIONS)
    for of_video in truth["database"].values():
        of_video["annotations"] = change(of_video["annotations"])
    results = {video: change_found(rows) for video, rows in found["results"].items()}
    paths = tmp_path / "truth.json", tmp_path / "found.json"
    paths[0].write_text(json.dumps(truth))
    paths[1].write_text(json.dumps(found | {"results": results}))
    return paths


@pytest.mark.parametrize("task", ["verb", "noun", "action"])
def test_epic_kitchens(task, tmp_path):
    name = {"verb": "epic_kitchens_verbs", "noun": "epic_kitchens_nouns", "action": "epic_kitchens"}[task]
    labels = sorted(
        {row["label"] for rows in json.loads(ACTIONS[1].read_text())["results"].values() for row in rows}
    )
    label = {own: own if task != "verb" else f"verb {i // 2}" for i, own in enumerate(labels)}
    renamed = lambda rows: [row | {"label": label[row["label"]]} for row in rows]
    found = measure(name, *actions_with(tmp_path, renamed, renamed))
    expected = EXPECTED["epic_kitchens"][task]
    assert maps_of(found) == pytest.approx([100 * value for value in expected["mAP"]], **EXACT)
    assert found["average_mAP"] == pytest.approx(100 * expected["average_mAP"], **EXACT)


def test_ego4d_moment_queries(tmp_path, capsys):
    with_length = lambda rows: [row for row in rows if row["segment"][0] < row["segment"][1]]
    in_order = lambda rows: sorted(with_length(rows), key=lambda row: -row["score"])
    found = measure("ego4d_mq", *actions_with(tmp_path, with_length, in_order))
    assert "their given order" not in capsys.readouterr().err
    expected = EXPECTED["ego4d_mq"]
    assert maps_of(found) == pytest.approx([100 * value for value in expected["mAP"]], **EXACT)
    assert found["average_mAP"] == pytest.approx(100 * expected["average_mAP"], **EXACT)
    recall = {name: 100 * value for name, value in expected["recall"].items()}
    assert {name: found[name] for name in recall} == pytest.approx(recall, **EXACT)
    # OpenTAD's is another number, the mean over classes.
    assert (
        measure("activitynet", *ACTIONS, variant="opentad", tiou="0.5")["recall@0.50@1"]
        != found["recall@0.50@1"]
    )
    backwards = lambda rows: in_order(rows)[::-1]
    changed = measure("ego4d_mq", *actions_with(tmp_path, with_length, backwards))
    assert "their given order" in capsys.readouterr().err
    assert (
        changed["recall@0.30@1"] < found["recall@0.30@1"] and changed["average_mAP"] == found["average_mAP"]
    )


@pytest.mark.parametrize("name", ["ego4d_nlq", "timelens"])
def test_moments(name):
    found = measure(name, *SINGLE)
    assert {key: found[key] for key in EXPECTED[name]} == pytest.approx(EXPECTED[name], **EXACT)
    assert {key for key in found if "@" in key or key == "mIoU"} == set(EXPECTED[name])


def test_nextgqa(tmp_path):
    truth, found, answers = (FOLDER / f"nextgqa_{name}.json" for name in ("truth", "found", "answers"))
    numbers = measure("nextgqa", truth, found, answers=answers)
    expected = EXPECTED["nextgqa"]
    assert {key: numbers[key] for key in expected} == pytest.approx(expected, abs=1e-9)
    assert "Acc@GQA" not in measure("nextgqa", truth, found)
    # The same in the format of `unloc evaluate`.
    as_lines = tmp_path / "found.jsonl"
    as_lines.write_text(
        "".join(
            json.dumps({"qid": key, "pred_relevant_windows": [[*span, 0.5], [0, 1, 0.4]]}) + "\n"
            for key, span in json.loads(found.read_text()).items()
        )
    )
    again = measure("nextgqa", truth, as_lines)
    assert {key: again[key] for key in expected if key != "Acc@GQA"} == pytest.approx(
        {key: value for key, value in expected.items() if key != "Acc@GQA"}, abs=1e-9
    )


def test_generalised_moment_retrieval():
    found = measure("gmr", FOLDER / "gmr_truth.jsonl", FOLDER / "gmr_found.jsonl")
    expected = EXPECTED["gmr"]  # two decimals
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=0.005 + 1e-9)
    assert 0 < found["absent"] < found["queries"]


def test_mad_one_by_one():
    """R@k of MAD's baselines (VLG-Net `evaluation.py`): a hit is tIoU over the hull ≥ the threshold."""
    truth, found = ([json.loads(line) for line in path.read_text().splitlines()] for path in SINGLE)
    numbers = measure("mad", *SINGLE)
    for k in (1, 5, 10, 50, 100):
        for threshold in (0.1, 0.3, 0.5):
            hits = 0
            for query, prediction in zip(truth, found):
                ((start, end),) = query["relevant_windows"]
                overlaps = [
                    max(0.0, min(end, e) - max(start, s)) / (max(end, e) - min(start, s))
                    for s, e, _ in prediction["pred_relevant_windows"][:k]
                ]
                hits += max(overlaps) >= threshold
            assert numbers[f"R{k}@{threshold}"] == pytest.approx(100 * hits / len(truth), **EXACT)


def charades(rng, videos=12, classes=5):
    rows = []
    for number in range(videos):
        length = round(float(rng.uniform(10, 40)), 2)
        actions = [
            (f"c{int(rng.integers(classes)):03}", *np.sort(rng.uniform(0, length, 2)).round(1).tolist())
            for _ in range(int(rng.integers(0, 4)) if number else 3)
        ]
        rows.append((f"V{number:04}", length, actions))
    return rows


def frame_map_one_by_one(rows, scores, classes):
    """Charades_v1_localize.m, statement by statement; scores: {(video, frame from 1 on): list}."""
    labels, values = [], []
    for video, length, actions in rows:
        for j in range(1, 26):
            time = (j - 1) / 25 * length
            shown = {int(label[1:]) for label, start, end in actions if start <= time <= end}
            labels.append([c in shown for c in range(classes)])
            values.append(scores.get((video, j), [-np.inf] * classes))
    average = []
    for c in range(classes):
        order = sorted(range(len(values)), key=lambda i: -values[i][c])  # stable, as MATLAB's
        right, total = 0, 0.0
        for place, i in enumerate(order, 1):
            if labels[i][c]:
                right += 1
                total += right / place
        average.append(total / right if right else np.nan)
    counts = np.sum(labels, axis=0)
    return 100 * np.nanmean(average), 100 * np.nansum(np.array(average) * counts) / counts.sum()


@pytest.mark.parametrize("first", [0, 1])
def test_charades_per_frame_one_by_one(first, tmp_path):
    """Its evaluator is a MATLAB program, which was not run."""
    rng = np.random.default_rng(5)
    rows, classes = charades(rng), 5
    table = tmp_path / "Charades_v1_test.csv"
    of_actions = lambda actions: ";".join(f"{label} {start} {end}" for label, start, end in actions)
    table.write_text(
        "id,subject,actions,length\n"
        + "".join(f'{video},"a, b",{of_actions(actions)},{length}\n' for video, length, actions in rows)
    )
    # Many equal scores, and frames that are missing.
    scores = {
        (video, frame): rng.integers(0, 4, classes).tolist()
        for video, _, _ in rows
        for frame in range(1, 26)
        if rng.random() < 0.9
    }
    submission = tmp_path / "submission.txt"
    submission.write_text(
        "".join(f"{v} {frame - 1 + first} {' '.join(map(str, of))}\n" for (v, frame), of in scores.items())
        + f"{rows[0][0]} {first} {' '.join(map(str, scores.get((rows[0][0], 1), [0] * classes)))}\n"
    )
    scores.setdefault((rows[0][0], 1), [0] * classes)
    found = measure("per-frame", table, submission)
    expected = frame_map_one_by_one(rows, scores, classes)
    assert (found["mAP"], found["weighted_mAP"]) == pytest.approx(expected, **EXACT)
    # The same from segments: a frame has the best score of what covers it.
    results, best = {}, {}
    for video, length, _ in rows:
        results[video] = []
        for _ in range(6):
            label, (start, end) = (
                int(rng.integers(classes)),
                np.sort(rng.uniform(0, length, 2)).round(1).tolist(),
            )
            score = float(rng.integers(1, 9))
            results[video].append({"label": f"c{label:03}", "segment": [start, end], "score": score})
            for j in range(1, 26):
                if start <= (j - 1) / 25 * length <= end:
                    of_frame = best.setdefault((video, j), [-np.inf] * classes)
                    of_frame[label] = max(of_frame[label], score)
    predictions = tmp_path / "predictions.json"
    predictions.write_text(json.dumps({"results": results}))
    database = {
        video: {
            "subset": "testing",
            "duration": length,
            "annotations": [{"label": label, "segment": [start, end]} for label, start, end in actions],
        }
        for video, length, actions in rows
    }
    truth = tmp_path / "charades.json"
    truth.write_text(json.dumps({"database": database}))
    expected = frame_map_one_by_one(rows, best, classes)
    for ground_truth in (table, truth):
        found = measure("charades_frames", ground_truth, predictions)
        assert (found["mAP"], found["weighted_mAP"]) == pytest.approx(expected, **EXACT)


def test_presence_one_by_one():
    rng = np.random.default_rng(3)
    for _ in range(30):
        present = rng.random(20) < 0.6
        score = rng.integers(0, 6, 20) / 5
        if present.all() or not present.any():
            continue
        pairs = [(a > b) + 0.5 * (a == b) for a in score[present] for b in score[~present]]
        assert auroc(present, score) == pytest.approx(100 * np.mean(pairs), **EXACT)
        every = {at: rejection_scores(present, score, at)["F1"] for at in [-1, *(score.tolist())]}
        chosen = calibrate(present, score)
        assert chosen.rejection_f1 == pytest.approx(max(every.values()), **EXACT)
        again = rejection_scores(present, score, chosen.threshold)
        assert again["F1"] == pytest.approx(chosen.rejection_f1, **EXACT)
    assert calibrate(np.ones(3, bool), np.arange(3.0)) is None and np.isnan(
        auroc(np.ones(3, bool), np.arange(3.0))
    )


def test_matches_take_free_answers():
    truth = [np.array([[0.0, 10], [8, 20]]), np.zeros((0, 2))]
    found = [np.array([[0.0, 9], [0, 10], [50, 60]]), np.array([[0.0, 9]])]
    matched = matched_ious(truth, found, -1.0, 3)
    assert matched[0] == pytest.approx([0.9, 2 / 20, np.nan], nan_ok=True)
    assert np.isnan(matched[1]).all()


def test_ego4d_nlq_and_timelens_in_their_own_formats(tmp_path):
    """The predictions that the evaluators themselves read."""
    truth, found = ([json.loads(line) for line in path.read_text().splitlines()] for path in SINGLE)
    windows = [[window[:2] for window in row["pred_relevant_windows"]] for row in found]
    of_nlq, own = tmp_path / "nlq.json", tmp_path / "truth.jsonl"
    rows = [
        {"clip_uid": "c", "annotation_uid": "a", "query_idx": i, "predicted_times": of}
        for i, of in enumerate(windows)
    ]
    of_nlq.write_text(json.dumps({"version": "1.0", "challenge": "ego4d_nlq_challenge", "results": rows}))
    own.write_text("".join(json.dumps(row | {"qid": f"a_{i}"}) + "\n" for i, row in enumerate(truth)))
    numbers = measure("ego4d_nlq", own, of_nlq)
    assert {key: numbers[key] for key in EXPECTED["ego4d_nlq"]} == pytest.approx(
        EXPECTED["ego4d_nlq"], **EXACT
    )

    own.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "qid"}) + "\n" for row in truth))
    keys = [f"{row['vid']}>>>{row['query']}>>>{row['relevant_windows'][0]}" for row in truth]
    each = {key: {"timestamps": of[:1], "answers": "…"} for key, of in zip(keys, windows)}
    one, several = tmp_path / "found.json", tmp_path / "found.jsonl"
    one.write_text(json.dumps(each))
    several.write_text("".join(json.dumps({key: value}) + "\n" for key, value in each.items()))
    for file in (one, several):
        numbers = measure("timelens", own, file)
        assert {key: numbers[key] for key in EXPECTED["timelens"]} == pytest.approx(
            EXPECTED["timelens"], **EXACT
        )
    one.write_text(json.dumps({keys[0]: {"answers": "from 3 to 4"}}))
    with pytest.raises(UserError, match="answers in words are not read"):
        measure("timelens", own, one)


@pytest.mark.parametrize("task", ["verb", "noun", "action"])
def test_epic_kitchens_in_its_own_formats(task, tmp_path):
    """Its tables and a submission, as the evaluator reads them."""
    database, results = (json.loads(path.read_text()) for path in ACTIONS)
    labels = ("BaseballPitch", "Billiards", "Diving", "LongJump", "Shotput")  # CLASSES of make.py
    pair = {label: (i // 2, i) for i, label in enumerate(labels)}
    clock = lambda time: f"{int(time // 3600):02}:{int(time % 3600 // 60):02}:{time % 60!r}"
    rows = [
        f"{video},{clock(row['segment'][0])},{clock(row['segment'][1])},{pair[row['label']][0]},{pair[row['label']][1]}"
        for video, of_video in database["database"].items()
        if of_video["subset"] == "validation"
        for row in of_video["annotations"]
    ]
    table = tmp_path / "EPIC_100_validation.csv"
    table.write_text("\n".join(["video_id,start_timestamp,stop_timestamp,verb_class,noun_class", *rows]))
    lengths = tmp_path / "EPIC_100_video_info.csv"
    lengths.write_text("video_id,duration\n" + "".join(f"{video},1000\n" for video in database["database"]))
    files = [table, lengths]
    for kind, number in (("verb", 3), ("noun", 5)):
        files.append(tmp_path / f"EPIC_100_{kind}_classes.csv")
        files[-1].write_text("id,key\n" + "".join(f"{i},{kind}{i}\n" for i in range(number)))
    entry = lambda row: {
        "verb": pair[row["label"]][0],
        "noun": pair[row["label"]][1],
        "action": "{},{}".format(*pair[row["label"]]),
        "score": row["score"],
        "segment": row["segment"],
    }
    submission = tmp_path / "submission.json"
    content = {video: [entry(row) for row in of_video] for video, of_video in results["results"].items()}
    submission.write_text(json.dumps({"version": "0.2", "challenge": "action_detection", "results": content}))
    name = {"verb": "epic_kitchens_verbs", "noun": "epic_kitchens_nouns", "action": "epic_kitchens"}[task]
    truth, subset = read_ground_truth(name, files, "validation", name)
    found = measure(name, truth, submission, subset=subset)
    expected = EXPECTED["epic_kitchens"][task]
    assert maps_of(found) == pytest.approx([100 * value for value in expected["mAP"]], **EXACT)
