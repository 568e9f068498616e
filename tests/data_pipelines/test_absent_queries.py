"""Queries that have no answer in their video: read, built, trained as occurring nowhere."""

import json

import numpy as np
import pytest

from data_pipelines.annotations import parse
from data_pipelines.builders.fit_to_duration import fit_to_video
from data_pipelines.check import check, to_text
from data_pipelines.ground_truth import read_ground_truth
from data_pipelines.reading.example import ExampleSpec, make_example
from tests.tiny import tiny_config
from unloc_jax.metrics.protocols.run import measure
from unloc_jax.queries import absent, queries_of
from unloc_jax.text import tokenize


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def own(video, text, split="train", **more):
    return {"video": video, "text": text, "split": split, "duration": 20, **more}


ROWS = (
    own("a.mp4", "it rains", windows=[[1, 4], [6, 9]]),
    own("a.mp4", "it snows", windows=[]),
    own("b.mp4", "it snows", windows=[], attributes={"weather": "snow"}),
    own("c.mp4", "it rains", "validation", start=1, end=2),
    own("c.mp4", "it snows", "validation", windows=[]),
)


def asked(record):
    return [(query.text, query.windows_s.tolist(), query.is_absent) for query in queries_of(record)]


def test_json_lines(tmp_path, capsys):
    path = lines(tmp_path / "q.jsonl", *ROWS)
    parsed = parse("jsonl", [path])
    assert not parsed.problems.counts
    a, b, c = parsed.records
    assert asked(a) == [("it rains", [[1, 4], [6, 9]], False), ("it snows", [], True)]
    assert asked(b) == [("it snows", [], True)] and absent(b) == [("it snows", {"weather": "snow"})]
    assert asked(c) == [("it rains", [[1, 2]], False), ("it snows", [], True)]
    told = check("jsonl", [path])
    assert (told["videos"], told["segments"], told["absent"]) == (3, 3, 3) and told["usable"]["videos"] == 3
    assert "queries without an answer in their video: 3" in to_text(told)


def test_a_table(tmp_path):
    path = tmp_path / "q_train.csv"
    path.write_text(
        "video,start,end,text\na,1,4,it rains\na,absent,absent,it snows\nb,absent,,it snows\nb,,,it thaws\n"
    )
    parsed = parse("csv", [path])
    assert [asked(record) for record in parsed.records] == [
        [("it rains", [[1, 4]], False), ("it snows", [], True)],
        [("it snows", [], True)],
    ]
    assert parsed.problems.counts == {"not a number": 1}  # missing times are no answer


def test_windows_that_are_wrong(tmp_path):
    path = lines(
        tmp_path / "q.jsonl",
        own("a", "x", windows=[3, [1, 2]]),
        own("a", "y", windows=[]),
        own("a", "y", windows=[]),
        own("a", "x", windows=[]),
    )
    parsed = parse("jsonl", [path])
    assert parsed.problems.counts == {
        "not a number": 1,
        "duplicate query": 1,
        "query with and without an answer": 1,
    }
    assert asked(parsed.records[0]) == [("x", [[1, 2]], False), ("y", [], True)]


def test_qvhighlights_layout(tmp_path):
    """As in Soccer-GMR. A file without any windows is a hidden test split, as before."""
    row = lambda qid, windows: (
        {"qid": qid, "vid": f"v{qid // 2}", "query": f"q{qid}", "duration": 10} | windows
    )
    rows = [
        row(0, {"relevant_windows": [[2, 4]]}),
        row(1, {"relevant_windows": []}),
        row(2, {"relevant_windows": []}),
        row(3, {}),
    ]
    parsed = parse("qvhighlights", [lines(tmp_path / "x_val.jsonl", *rows)])
    assert [asked(record) for record in parsed.records] == [
        [("q0", [[2, 4]], False), ("q1", [], True)],
        [("q2", [], True)],
    ]
    assert queries_of(parsed.records[1])[0].qid == 2
    assert parsed.problems.counts == {"query without segments": 1}
    hidden = parse("qvhighlights", [lines(tmp_path / "x_test.jsonl", *rows[1:])]).records
    assert [asked(record) for record in hidden] == [
        [("q1", [], False)],
        [("q2", [], False), ("q3", [], False)],
    ]


def test_a_video_that_is_shorter_keeps_them(tmp_path):
    record = parse("jsonl", [lines(tmp_path / "q.jsonl", *ROWS)]).records[0]
    findings = []
    fitted = fit_to_video(record, 0.5, findings)  # its segments begin later
    assert fitted is not None and not len(fitted.segments_s)
    assert [text for text, _ in absent(fitted)] == ["it snows"]


@pytest.mark.parametrize("trained", [True, False])
def test_training_examples(trained, tmp_path):
    records = parse("jsonl", [lines(tmp_path / "q.jsonl", *ROWS)]).records
    config = tiny_config(
        data={"num_frames": 8, "max_queries": 3, "max_segments": 3, "absent_queries": trained}
    ).data
    spec = ExampleSpec(config, 8, None, with_frames=False, features={"x": 4})
    for record in records:
        record.features["x"] = np.zeros((20, 4), np.float32)
    snow = tokenize(["it snows"], 8)[0]
    fields = make_example(records[0], spec, None).fields
    assert fields["text_mask"].tolist() == [True, trained, False]
    assert (fields["text_tokens"][1] == snow).all() == trained
    assert fields["segment_text"].tolist() == [0, 0, -1]
    alone = make_example(records[1], spec, None).fields
    assert alone["text_mask"].tolist() == [trained, False, False] and (alone["segment_text"] == -1).all()


def test_ground_truth_of_protocols(tmp_path):
    path = lines(tmp_path / "q.jsonl", *ROWS)
    found = lines(
        tmp_path / "found.jsonl",
        {"vid": "c", "query": "it rains", "pred_relevant_windows": [[1, 2, 0.9]]},
        {"vid": "c", "query": "it snows", "pred_relevant_windows": [[1, 2, 0.1]]},
    )
    truth, subset = read_ground_truth("gmr", [path], "validation")
    numbers = measure("gmr", truth, found, subset=subset)
    assert numbers["AUROC"] == numbers["G-mIoU@1"] == 100 and numbers["absent"] == 1
    # Others leave them out.
    numbers = measure("moment-retrieval", truth, found, subset=subset)
    assert numbers["queries"] == 1 and numbers["R1@0.7"] == 100
