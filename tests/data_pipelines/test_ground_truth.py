"""`--ground-truth`: one's own tables, JSON Lines and shards, ActivityNet's other layouts; for both commands."""

import json
import subprocess
import sys

import pytest

from data_pipelines.ground_truth import read_ground_truth
from data_pipelines.reading.built import find_dataset
from data_pipelines.reading.record_index import iterate_records
from unloc_jax.metrics.protocols.activitynet import evaluate_activitynet
from unloc_jax.metrics.protocols.moment_retrieval import evaluate_moment_retrieval
from unloc_jax.metrics.protocols.qvhighlights import evaluate_qvhighlights

# Three classes, one of which is a number, in two splits; times that float32 cannot hold.
ACTIONS = [
    ("a", 0.1, 2.7, "run", "test"),
    ("a", 3.3, 9.9, 3, "test"),
    ("b", 1.1, 4.2, "run", "test"),
    ("c", 0.0, 4.0, "jump", "train"),
]
QUERIES = [
    ("a", 0.1, 2.7, "he runs", "test"),
    ("a", 5.3, 7.9, "he runs", "test"),
    ("b", 1.1, 4.2, "she jumps, twice", "test"),
]


def table(rows, column, ending=".mp4"):
    cells = [f'{video}{ending},{start},{end},"{text}",{split}' for video, start, end, text, split in rows]
    return "\n".join([f"video,start,end,{column},split", *cells])


def json_lines(rows, column):
    names = ("video", "start", "end", column, "split")
    return "\n".join(json.dumps(dict(zip(names, row))) for row in rows)


def official(rows):
    database = {}
    for video, start, end, label, split in rows:
        of_video = database.setdefault(video, {"subset": split, "duration": 10.0, "annotations": []})
        of_video["annotations"].append({"segment": [start, end], "label": label})
    return {"database": database}


def perfect(rows, split="test"):
    results = {}
    for number, (video, start, end, label, of) in enumerate(rows):
        if of == split:
            row = {"segment": [start, end], "label": label, "score": 0.9 - number / 100}
            results.setdefault(video, []).append(row)
    return {"results": results}


@pytest.fixture
def files(tmp_path):
    """Writes files and returns their paths."""

    def write(**contents):
        for name, content in contents.items():
            path = tmp_path / name.replace("__", ".")
            path.write_text(content if isinstance(content, str) else json.dumps(content))
            yield path

    return lambda **contents: list(write(**contents))


def test_classes_of_ones_own_data(files, unloc):
    """Metrics and diagnosis count what the official layout of the same segments gives; a number is a class."""
    truths = files(
        own__csv=table(ACTIONS, "label"),
        own__jsonl=json_lines(ACTIONS, "label"),
        official__json=official(ACTIONS),
    )
    found, half = files(found__json=perfect(ACTIONS), half__json=perfect(ACTIONS[1:]))
    numbers = []
    for truth in truths:
        for predictions in (found, half):
            out = predictions.with_suffix(".metrics")
            words = [f"--ground-truth={truth}", f"--predictions={predictions}", "--subset=test"]
            done = unloc("metrics", "--protocol=activitynet", *words, f"--out={out}")
            assert done.status == 0, done.err
            numbers.append(json.loads(out.read_text()))
            done = unloc("diagnose", "--protocol=activitynet", *words, f"--json={out}")
            assert done.status == 0, done.err
            summary = json.loads(out.read_text())["summary"]
            assert (summary["videos"], summary["ground-truth segments"], summary["classes"]) == (2, 3, 2)
    assert numbers[0]["average_mAP"] == pytest.approx(100)
    assert numbers[0]["per_class_AP"].keys() == {"run", "3", "jump"} - {"jump"}
    assert numbers[1]["average_mAP"] < 100
    assert numbers[:2] == numbers[2:4] == numbers[4:]


def test_queries_of_ones_own_data(files):
    """A sentence that is said of two moments is two queries, as `unloc evaluate` and official evaluations count."""
    for truth in files(own__csv=table(QUERIES, "text"), own__jsonl=json_lines(QUERIES, "text")):
        (found,) = files(
            found__jsonl="\n".join(
                json.dumps({"vid": video, "query": text, "pred_relevant_windows": windows})
                for video, text, windows in (
                    ("b", "she jumps, twice", [[1.1, 4.2, 0.9]]),
                    ("a", "he runs", [[0.1, 2.7, 0.8]]),
                    ("a", "he runs", [[5.3, 7.9, 0.9]]),
                )
            )
        )
        queries, subset = read_ground_truth("moment-retrieval", [truth])
        numbers = evaluate_moment_retrieval(queries, found)
        assert subset is None
        assert (numbers["queries"], numbers["predicted_queries"], numbers["mIoU"]) == (3, 3, 100)
        assert evaluate_qvhighlights(queries, found)["brief"]["MR-full-mAP"] == 100


def test_one_query_of_several_moments(files):
    """Segments with one qid are the moments of one query, found by that qid."""
    rows = [
        {"video": "a", "start": start, "end": end, "text": "he runs", "attributes": {"qid": "7"}}
        for start, end in ((0.1, 2.7), (5.3, 7.9))
    ]
    truth, found = files(
        test__jsonl="\n".join(map(json.dumps, rows)),
        found__jsonl=json.dumps({"qid": 7, "pred_relevant_windows": [[5.3, 7.9, 0.9], [0.1, 2.7, 0.8]]}),
    )
    queries, _ = read_ground_truth("qvhighlights", [truth])
    assert len(list(queries.rows())) == 1
    assert evaluate_qvhighlights(queries, found)["brief"]["MR-full-mAP"] == 100


def test_the_split_is_chosen(files, unloc):
    truth, found = files(own__csv=table(ACTIONS, "label"), found__json=perfect(ACTIONS))
    words = ["--protocol=activitynet", f"--ground-truth={truth}", f"--predictions={found}"]
    assert "it has the splits train, test: choose one with --subset" in unloc("metrics", *words).error()
    assert "choose one with --subset" in unloc("diagnose", *words).error()
    assert (
        'no videos of split "val"; there are: train, test' in unloc("metrics", *words, "--split=val").error()
    )
    assert "of another subset" in unloc("metrics", *words, "--split=train").error()
    assert unloc("metrics", *words, "--split=testing").status == 0


def test_what_does_not_fit_is_refused(files, unloc):
    classes, queries, found = files(
        classes__csv=table(ACTIONS[:3], "label"),
        queries__csv=table(QUERIES, "text"),
        found__json=perfect(ACTIONS),
    )
    for truth, protocol, message in (
        (classes, "moment-retrieval", "classes__csv: its texts are classes, … use --protocol activitynet"),
        (queries, "activitynet", "queries__csv: its texts are queries … use --protocol moment-retrieval"),
        (classes, "tvsum", "the protocol tvsum takes its datasets' own files"),
        (classes, "segmentation", "the protocol segmentation takes its datasets' own files"),
    ):
        words = [f"--protocol={protocol}", f"--ground-truth={truth}", f"--predictions={found}"]
        error = unloc("metrics", *words).error()
        assert all(part in error for part in message.replace("__", ".").split(" … ")), error


def test_problems_of_ones_own_data_are_counted(files, unloc):
    rows = [*ACTIONS[:3], ("b", 9.0, 8.0, "run", "test")]
    truth, found = files(own__csv=table(rows, "label"), found__json=perfect(ACTIONS))
    done = unloc("metrics", "--protocol=activitynet", "--ground-truth", truth, "--predictions", found)
    assert done.status == 0 and done.err.count("\n") == 1
    assert "problems of the ground truth: start >= end (1)" in done.err


def flat(rows):
    """As BMN's and mmaction2's: without "database" and without subsets."""
    return {
        f"v_{video}": {"duration_second": 10.0, "annotations": value["annotations"]}
        for video, value in official(rows)["database"].items()
    }


def test_bmn_and_mmaction2(files, unloc):
    """Subsets are in a table or not at all; ids have "v_" in front, in predictions or not."""
    whole, part, subsets, plain, prefixed = files(
        anet_anno_action__json=flat(ACTIONS),
        anet_anno_test__json=flat(ACTIONS[:3]),
        video_info_new__csv="video,numFrame,subset\nv_a,9,testing\nv_b,9,testing\nv_c,9,training",
        plain__json=perfect(ACTIONS),
        prefixed__json={"results": {f"v_{v}": rows for v, rows in perfect(ACTIONS)["results"].items()}},
    )
    for truth in (["--ground-truth", whole, subsets, "--subset=testing"], ["--ground-truth", part]):
        for found in (plain, prefixed):
            words = ["--protocol=activitynet", *truth, f"--predictions={found}"]
            out = found.with_suffix(".out")
            done = unloc("metrics", *words, f"--out={out}")
            assert done.status == 0, done.err
            numbers = json.loads(out.read_text())
            assert (numbers["videos"], numbers["average_mAP"]) == (2, pytest.approx(100))
            assert ("says its subset" in done.err) == (truth[1] == part)
            done = unloc("diagnose", *words, f"--json={out}")
            assert done.status == 0, done.err
            diagnosed = json.loads(out.read_text())
            assert diagnosed["by-coverage"]["tables"], "durations are read"
    error = unloc("metrics", "--protocol=thumos14", *truth, subsets, f"--predictions={plain}").error()
    assert "takes one file" in error


@pytest.mark.slow
def test_predictions_of_a_model_of_ones_own(
    trained_on_classes, activities_dataset, tiny_videos, tmp_path, files, unloc
):
    """The files of `unloc evaluate` are scored and diagnosed on tables, JSON Lines and shards alike."""
    done = unloc(
        "evaluate",
        f"--checkpoint={trained_on_classes}",
        f"--data-dir={activities_dataset}",
        f"--out={tmp_path}",
    )
    assert done.status == 0, done.err
    rows = []
    for record in iterate_records(find_dataset(activities_dataset), "test", with_frames=False):
        for (start, end), label in zip(record.segments_s, record.texts, strict=True):
            rows.append((record.video_id, str(start), str(end), label, "test"))
    truths = files(own__csv=table(rows, "label"), own__jsonl=json_lines(rows, "label"))
    numbers = []
    for truth in (tiny_videos / "annotations" / "activities.json", activities_dataset, *truths):
        words = ["--protocol=activitynet", f"--ground-truth={truth}", "--subset=testing"]
        words.append(f"--predictions={tmp_path / 'predictions.json'}")
        done = unloc("metrics", *words, f"--out={tmp_path / 'numbers.json'}")
        assert done.status == 0, done.err
        numbers.append(json.loads((tmp_path / "numbers.json").read_text()))
        done = unloc("diagnose", *words, f"--out={tmp_path / 'page.html'}")
        assert done.status == 0, done.err
        assert "Diagnosis of detections" in (tmp_path / "page.html").read_text()
    assert numbers[0]["videos"] == 3 and numbers[0]["ground_truth_segments"] == len(rows) > 3
    for others in numbers[1:]:
        assert others["average_mAP"] == pytest.approx(numbers[0]["average_mAP"])
        assert others["ground_truth_segments"] == len(rows)


def test_shards_of_queries(captions_dataset, files):
    """Every query of a shard is found by its video and its text."""
    truth, _ = read_ground_truth("moment-retrieval", [captions_dataset], "test")
    rows = [row for _, row in truth.rows()]
    lines = [
        {
            "vid": row["vid"],
            "query": row["query"],
            "pred_relevant_windows": [[*window, 1.0] for window in row["relevant_windows"]],
        }
        for row in reversed(rows)
    ]
    (found,) = files(found__jsonl="\n".join(map(json.dumps, lines)))
    numbers = evaluate_moment_retrieval(truth, found)
    assert numbers["queries"] == numbers["predicted_queries"] == len(rows) > 6
    assert (numbers["R1@0.7"], numbers["mIoU"]) == (100, pytest.approx(100))


def test_official_files_need_no_data_extra(files):
    """`unloc metrics` of official files imports neither TensorFlow nor what reads shards and videos."""
    truth, found = files(truth__json=official(ACTIONS), found__json=perfect(ACTIONS))
    program = f"""
import sys
from unloc_jax.cli import main
words = ["--ground-truth={truth}", "--predictions={found}", "--subset=test"]
assert main(["metrics", "--protocol=activitynet", *words]) == 0
heavy = {{"tensorflow", "jax", "av", "google_crc32c", "PIL"}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_function_takes_ones_own_data(files):
    truth, found = files(own__csv=table(ACTIONS, "label"), found__json=perfect(ACTIONS))
    classes, subset = read_ground_truth("activitynet", [truth], "test")
    assert evaluate_activitynet(classes, found, subset=subset)["average_mAP"] == pytest.approx(100)
