"""`unloc metrics` scores the file of `unloc evaluate`, against the official file, as `evaluate` printed it."""

import dataclasses
import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.annotations import PARSERS
from data_pipelines.ground_truth import read_ground_truth
from tests.inference.official_datasets import OFFICIAL, KnowingPredictor, Official, records_of
from unloc_jax.evaluation.evaluate import evaluate
from unloc_jax.metrics.checks import InputWarning
from unloc_jax.metrics.protocols.run import run_protocol
from unloc_jax.records import VideoRecord

_REAL = Path(__file__).parents[3] / "shared" / "annotations"


def test_every_dataset_has_a_test():
    assert OFFICIAL.keys() == PARSERS.keys()


def _numbers(
    name: str, official: Official, files: list[Path], out: Path, rng=None
) -> tuple[dict, dict, Path]:
    """Returns (what evaluate printed, the protocol's result for its file, the file)."""
    records, classes = records_of(name, files, official.split)
    predictor = KnowingPredictor(name, official.task, records, official.split, classes, rng)
    metrics = evaluate(predictor, official.split, out)
    printed = metrics.get("metrics") or metrics.get("mAP") or metrics["recall"]["model"]
    (file,) = out.glob("predictions.json*")
    if official.dataset:
        truth, subset = read_ground_truth(official.protocol, files, official.split, name)
    else:
        truth, subset = read_ground_truth(official.protocol, files[:1])
    found = run_protocol(official.protocol, truth, file, subset=subset, **official.options)
    return printed, found | found.get("brief", {}), file


@pytest.mark.parametrize("name", OFFICIAL)
def test_perfect_predictions_get_the_best_score(name, tmp_path):
    official = OFFICIAL[name]
    printed, found, _ = _numbers(name, official, official.write(tmp_path), tmp_path / "out")
    for ours, theirs in official.same.items():
        assert found[theirs] == pytest.approx(official.best.get(theirs, 100), abs=1e-3), theirs
        assert printed[ours] == pytest.approx(found[theirs], abs=1e-3), ours


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_numbers_of_other_predictions_are_the_same(name, tmp_path):
    official = OFFICIAL[name]
    files, rng = official.write(tmp_path), np.random.default_rng(0)
    # Two decimals there; frames by frames per second, which float32 does not hold.
    digits = {"qvhighlights": 0.006, "tacos": 1e-4}.get(name, 1e-9)
    seen = set()
    for number in range(5):
        printed, found, _ = _numbers(name, official, files, tmp_path / str(number), rng)
        assert {ours: found[theirs] for ours, theirs in official.same.items()} == pytest.approx(
            {ours: printed[ours] for ours in official.same}, abs=digits
        )
        seen.add(tuple(round(found[theirs], 3) for theirs in official.same.values()))
    assert len(seen) > 1  # they do tell something


@pytest.mark.parametrize("name", OFFICIAL)
def test_nothing_is_odd_about_the_file(name, tmp_path, capsys):
    """No query is unknown or predicted twice; the files of moments are their own ground truth too."""
    official = OFFICIAL[name]
    *_, file = _numbers(name, official, official.write(tmp_path), tmp_path / "out")
    warned = [line for line in capsys.readouterr().err.splitlines() if "share their score" not in line]
    expected = {
        "activitynet": ["have no length"],
        "thumos14": ["ambiguous regions are left alone"],
        "qvhighlights": ["no ground-truth window is middle", "no ground-truth window is long"],
    }
    assert len(warned) == len(expected.get(name, []))
    assert all(part in line for part, line in zip(expected.get(name, []), warned))
    if official.protocol == "moment-retrieval":
        found = run_protocol("moment-retrieval", file, file)
        assert found["R1@0.7"] == pytest.approx(100) and capsys.readouterr().err == ""


def _captions(content: str) -> str:
    videos = json.loads(content)
    first = next(iter(videos.values()))
    first["timestamps"] += [[9, 9], [9, 3], [5000, 5001]]
    first["sentences"] += ["empty", "reversed", "later"]
    return json.dumps(videos | {"none": first | {"timestamps": [[4, 4], [4, 2]], "sentences": ["a", "b"]}})


def _database(content: str, text: str) -> str:
    videos = json.loads(content)["database"]
    first = next(iter(videos.values()))
    empty = [{"segment": [4, 4], text: "fry"}, {"segment": [500, 501], text: "fry"}]
    # Action localisation refuses reversed segments of its official files.
    reversed_ = [{"segment": [9, 3], text: "fry"}] if text == "sentence" else []
    first["annotations"] += empty + reversed_
    return json.dumps({"database": videos | {"none": first | {"annotations": empty + reversed_}}})


def _didemo(content: str) -> str:
    rows = json.loads(content)
    lost = [rows[0] | {"annotation_id": 50, "times": [[3, 1]] * 4}]
    lost += [rows[0] | {"annotation_id": 51, "times": [[0, 0], [3, 1]]}, rows[0] | {"annotation_id": 52}]
    lost += [rows[0] | {"video": "none.mov", "annotation_id": 53, "times": [[2, 1]] * 4}]
    return json.dumps(rows + lost)


def _qvhighlights(content: str) -> str:
    row = json.loads(content.splitlines()[0])
    lost = [row | {"qid": "e", "relevant_windows": [[4, 4], [9, 3], [2, 6]]}]
    lost += [row | {"qid": "r", "relevant_windows": [[9, 3]]}]
    return content + "".join(json.dumps(line) + "\n" for line in lost)


# Official file → the same with segments that nothing of the video shows, some of them a video's only ones.
_UNFINDABLE = {
    "activitynet": lambda content: _database(content, "label"),
    "activitynet_captions": _captions,
    "charades_sta": lambda content: (
        content
        + "AAAAA 9 9##empty\nAAAAA 9 3##reversed\nAAAAA 90 95##later\nAAAAA 9 3##person sits.\nCCCCC 5 5##c\n"
    ),
    "csv": lambda content: (
        content + "a.mp4,9,9,empty,20\na.mp4,9,3,reversed,20\na.mp4,30,31,later,20\nb.mp4,5,5,b,20\n"
    ),
    "didemo": _didemo,
    "jsonl": lambda content: (
        content + json.dumps({"video": "n", "duration": 9, "start": 4, "end": 2, "text": "lost"}) + "\n"
    ),
    "qvhighlights": _qvhighlights,
    "tacos": _captions,
    "thumos14": lambda content: _database(content, "label"),
    "youcook2": lambda content: _database(content, "sentence"),
}


@pytest.mark.parametrize("name", _UNFINDABLE)
def test_what_no_model_can_find_counts_as_in_the_official_file(name, tmp_path):
    """Empty and reversed segments, and those behind the video's end: printed is what the metrics of the file are."""
    official = OFFICIAL[name]
    more = {file: content + "CCCCC,20\n" for file, content in official.more.items()}
    worse = dataclasses.replace(official, content=_UNFINDABLE[name](official.content), more=more)
    digits = {"qvhighlights": 0.006, "tacos": 1e-4}.get(name, 1e-9)
    for rng in (None, np.random.default_rng(0)):
        folder = tmp_path / str(rng is None)
        folder.mkdir()
        printed, found, file = _numbers(name, worse, worse.write(folder), folder / "out", rng)
        assert {ours: found[theirs] for ours, theirs in official.same.items()} == pytest.approx(
            {ours: printed[ours] for ours in official.same}, abs=digits
        )
        if official.protocol == "moment-retrieval":
            # Both are less than what perfect predictions get; the file is its own ground truth, too.
            assert max(printed["R1@0.5"], run_protocol(official.protocol, file, file)["R1@0.5"]) < 100


def test_ids_stay_what_they_were(tmp_path):
    written = {}
    for name in ("qvhighlights", "didemo", "tacos", "jsonl", "csv", "youtube_highlights"):
        folder = tmp_path / name
        folder.mkdir()
        *_, file = _numbers(name, OFFICIAL[name], OFFICIAL[name].write(folder), folder / "out")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        written[name] = [(line.get("qid"), line["vid"]) for line in lines]
    assert written["qvhighlights"] == [(8737, "a_0.0_30.0"), ("0012", "a_0.0_30.0"), ("12", "b_0.0_30.0")]
    assert written["didemo"] == [
        (0, "1@N01_1_a.mov"),
        (1, "1@N01_1_a.mov"),
        (2, "1@N01_1_a.mov"),
        (3, "2@N02_2_b.avi"),
    ]
    assert {vid for _, vid in written["tacos"]} == {"s30-d52.avi", "s31-d1.avi"}
    assert written["jsonl"] == [(None, 12), (None, "12.5"), (None, "12.5")]
    assert [vid for _, vid in written["csv"]] == ["a.mp4", "a.mp4", "0012"]
    assert written["youtube_highlights"] == [("own1", "own1"), (7, "own2")]


def test_several_answers_are_one_query(tmp_path, capsys):
    """Also for the controls: another query is never the same one, nor one in the same words or with the same answer."""
    official = OFFICIAL["didemo"]
    records, _ = records_of("didemo", official.write(tmp_path), "test")
    metrics = evaluate(
        KnowingPredictor("didemo", official.task, records, "test", None), "test", tmp_path / "out"
    )
    assert metrics["queries"] == 4
    assert metrics["recall"]["model"]["R1@0.7"] == 100
    # Between "a red circle" and "a blue square" only: the other "a red circle" is the same query.
    assert metrics["recall"]["another query of the same video"]["R1@0.3"] == 0
    assert metrics["right_event"]["right_event"]["count"] == 3
    assert metrics["right_event"]["differs_only_in"] == {}
    assert "annotators" not in capsys.readouterr().out


HIDDEN = {
    "moment_retrieval": ["a man", "a dog"],
    "highlight_detection": ["a man", "a dog"],
    "temporal_action_localization": [],
    "action_segmentation": [],
    "classification": [],
}


@pytest.mark.parametrize("task", HIDDEN)
def test_a_hidden_split_is_predicted_and_not_scored(task, tmp_path):
    texts = HIDDEN[task]
    empty = np.zeros((0, 2), np.float32)
    attributes = [{"qid": str(number)} for number, _ in enumerate(texts)]
    records = [VideoRecord(name, 10.0, "test", empty, texts, attributes) for name in "ab"]
    predictor = KnowingPredictor("x", task, records, "test", ["run", "jump"], np.random.default_rng(0))
    metrics = evaluate(predictor, "test", tmp_path)
    assert metrics["scored"] is False
    assert json.loads((tmp_path / "metrics.json").read_text())["scored"] is False
    assert "nothing was scored: the test split of x has no ground truth" in str(metrics)
    (file,) = tmp_path.glob("predictions.json*")
    if task == "temporal_action_localization":
        results = json.loads(file.read_text())["results"]
        assert results.keys() == {"a", "b"} and all(len(rows) == 14 for rows in results.values())
        return
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(lines) == 2 * max(1, len(texts))
    assert not {"relevant_windows", "gt", "label"} & lines[0].keys()
    if texts:
        assert [line["qid"] for line in lines] == [0, 1, 0, 1]
        assert all(len(line["pred_relevant_windows"]) == 7 for line in lines)


def test_what_is_hidden_beside_what_is_known_is_not_scored(tmp_path):
    known = VideoRecord("a", 10.0, "test", np.array([[1, 4]], np.float32), ["a man"], [{"qid": "1"}])
    hidden = VideoRecord("b", 10.0, "test", np.zeros((0, 2), np.float32), ["a dog"], [{"qid": "2"}])
    metrics = evaluate(
        KnowingPredictor("x", "moment_retrieval", [hidden, known], "test", None), "test", tmp_path
    )
    assert (metrics["queries"], metrics["queries_without_ground_truth"]) == (2, 1)
    assert metrics["recall"]["model"]["R1@0.7"] == 100
    assert "1 more queries have no ground truth" in str(metrics)
    assert len((tmp_path / "predictions.jsonl").read_text().splitlines()) == 2


_REAL_FILES = {
    "activitynet_captions": ("activitynet_captions_val.json",),
    "charades_sta": ("charades_sta_test.txt", "charades_v1_test.csv"),
    "coin": ("coin_test_from_ssn_list.json", "coin_taxonomy.json"),
    "qvhighlights": ("qvhighlights_val_release.jsonl",),
    "tacos": ("tacos_test.json",),
    "thumos14": ("thumos14_actionformer.json",),
    "tvsum": ("tvsum_val.jsonl",),
    "youcook2": ("youcook2_captions_val.json",),
}
# Highlights: annotators disagree, and five windows of QVHighlights beyond the tenth do not count.
_REAL_BEST = {
    "qvhighlights": {"MR-mAP": 99.76, "HL-mAP-Fair": 97.14, "HIT@1-Fair": 100.0},
    "tvsum": {"mAP": 84.347},
}


@pytest.mark.slow
@pytest.mark.skipif(not _REAL.is_dir(), reason="the real annotation files are not here")
@pytest.mark.parametrize("name", _REAL_FILES)
def test_perfect_predictions_of_the_real_files(name, tmp_path):
    official, files = OFFICIAL[name], [_REAL / file for file in _REAL_FILES[name]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputWarning)
        printed, found, _ = _numbers(name, official, files, tmp_path)
    for ours, theirs in official.same.items():
        assert printed[ours] == pytest.approx(found[theirs], abs=0.006), ours
    best = _REAL_BEST.get(name, dict.fromkeys(official.same, 100.0))
    assert {ours: printed[ours] for ours in best} == pytest.approx(best, abs=0.01)
