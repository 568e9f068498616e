"""Files that are wrong or odd: what is said about them, where, how many. Never a silent zero."""

import json

import pytest

from tests.metrics.test_protocols import (
    CLIP_SCORES,
    CLIPS,
    DATABASE,
    DOMAINS,
    FRAME_LABELS,
    FRAMES,
    HIGHLIGHTS,
    QUERIES,
    RESULTS,
    TEST,
    TEST_RESULTS,
    WINDOWS,
    action,
    lines,
)
from unloc_jax.cli import main

GOOD = action(0, 10, "run", 0.9)
NAN = float("nan")


def evaluate(tmp_path, protocol, truth, found, *options):
    for name, content in (("truth", truth), ("found", found)):
        if not isinstance(content, str | bytes):
            content = lines(*content) if isinstance(content, list) else json.dumps(content)
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    files = ["--ground-truth", str(tmp_path / "truth"), "--predictions", str(tmp_path / "found")]
    return main(["metrics", "--protocol", protocol, *files, *options])


def actions(*rows, video="a"):
    return {"results": {video: list(rows)}}


def windows(*rows, qid=1):
    return {"qid": qid, "pred_relevant_windows": list(rows)}


def changed(rows, **fields):
    return [rows[0] | fields, *rows[1:]]


REFUSED = {
    "an unknown protocol": (("ego4d_mp", DATABASE, RESULTS), "did you mean ego4d_mq?"),
    "thresholds of moments": (("moment-retrieval", QUERIES, WINDOWS, "--tiou=5"), "--tiou=5: thresholds look like"),
    "numbers of windows": (("moment-retrieval", QUERIES, WINDOWS, "--top=5,1"), "--top=5,1: numbers of first windows"),
    "no query with an answer": (
        ("gmr", changed(QUERIES[:1], relevant_windows=[]), WINDOWS[1:]),
        "none of its queries has an answer",
    ),
    "how sure it is": (
        ("gmr", QUERIES, changed(WINDOWS, pred_exist_score="yes")),
        "line 1: \"pred_exist_score\" must be a finite number, not 'yes'",
    ),
    "a query without an answer": (
        ("moment-retrieval", changed(QUERIES, relevant_windows=[]), WINDOWS),
        "it has no windows; queries without an answer are for --protocol gmr",
    ),
    "a video without a duration": (("per-frame", DATABASE, RESULTS), "2 of 2 videos have no duration in seconds"),
    "a question without moments": (
        ("nextgqa", {"v": {"location": {"0": []}}}, {"v_0": [0, 1]}),
        'the first is "v", question 0: it has no moments',
    ),
    "a span of three": (
        ("nextgqa", {"v": {"location": {"0": [[0, 1]]}}}, {"v_0": [0, 1, 2]}),
        '"span" has [0, 1, 2], not 2 numbers',
    ),
    "no question": (
        ("nextgqa", {"v": {"location": {"0": [[0, 1]]}}}, {"0": [0, 1]}),
        "'0' is not, but 'v_0' is",
    ),
    "a score that is not a number": (
        ("activitynet", DATABASE, actions(GOOD, action(0, 1, "run", NAN), action(0, 1, "run", NAN))),
        'found: 2 of 3 predictions are wrong; the first is results["a"][1]: "score" is not finite: nan',
    ),
    "an endless segment": (
        ("activitynet", DATABASE, actions(action(0, float("inf"), "run", 1))),
        '"segment" is not finite: [0, inf]',
    ),
    "beyond float64": (
        ("activitynet", DATABASE, actions(action(0, 1, "run", 10**400))),
        '"score" is not finite: 1000',
    ),
    "a score in quotes": (("activitynet", DATABASE, actions(action(0, 1, "run", "0.9"))), "a number, not '0.9'"),
    "true is not a number": (("activitynet", DATABASE, actions(action(0, 1, "run", True))), "a number, not True"),
    "three times": (
        ("activitynet", DATABASE, actions({"segment": [0, 1, 2], "score": 1, "label": "run"})),
        "must be two numbers, not [0, 1, 2]",
    ),
    "no label": (("activitynet", DATABASE, actions(action(0, 1, score=1))), '"label" is missing'),
    "a label that is neither text nor a number": (
        ("activitynet", DATABASE, actions(action(0, 1, "run", 1), action(0, 1, True, 1), action(0, 1, [7], 1))),
        '2 of 3 predictions are wrong; the first is results["a"][1]: "label" must be a string or a number, not True',
    ),
    "no rows": (("activitynet", DATABASE, {"results": {"a": GOOD}}), 'results["a"] must be a list'),
    "ids written differently": (
        ("activitynet", DATABASE, actions(GOOD, video="v_a")),
        'none of its 1 videos is in the evaluated subset of … Predicted ids start with "v_"',
    ),
    "another subset": (("activitynet", DATABASE, actions(GOOD, video="c")), "choose it with --subset"),
    "no such subset": (
        ("activitynet", DATABASE, RESULTS, "--subset", "test"),
        'no videos of subset "test"; there are: validation (2 videos), training (1 videos)',
    ),
    "other classes": (
        ("activitynet", DATABASE, actions(action(0, 1, "swim", 1))),
        "none of its labels is a class of … 'swim' is not, but 'run' is",
    ),
    "a ground truth for predictions": (
        ("activitynet", DATABASE, DATABASE),
        'there is no "results"; it looks like an ActivityNet-style ground truth',
    ),
    "moments for actions": (
        ("activitynet", DATABASE, WINDOWS),
        "it looks like predictions of moments (protocols moment-retrieval, qvhighlights)",
    ),
    "predictions for a ground truth": (
        ("activitynet", RESULTS, RESULTS),
        'truth: there is no "database"; it looks like ActivityNet-style predictions',
    ),
    "a reversed ground truth": (
        ("activitynet", {"database": {"a": {"subset": "validation", "annotations": [action(5, 1, "x")]}}}, RESULTS),
        'database["a"].annotations[0]: "segment" starts after its end: [5, 1]',
    ),
    "ambiguous regions of another form": (
        ("thumos14", TEST | {"ambiguous": {"a": 3}}, TEST_RESULTS),
        '"ambiguous" must be an object: video → list of [start, end]',
    ),
    "half a file": (("activitynet", DATABASE, '{"results": {"a": [{'), "line 1, character 20: not JSON"),
    "two files": (("activitynet", DATABASE, '{"results": {}}{}'), "line 1, character 15: the JSON object ends here"),
    "an empty file": (("activitynet", DATABASE, ""), "the file is empty"),
    "a deep file": (("activitynet", DATABASE, '{"results": {"a": ' + "[" * 100_000), "brackets within brackets"),
    "deep lines": (("qvhighlights", QUERIES, '{"qid": ' + "[" * 100_000), "line 1: not such a file"),
    "no text": (("activitynet", DATABASE, b"\xff\xfe\x00"), "not a text file (UTF-8)"),
    "an option of another protocol": (
        ("activitynet", DATABASE, RESULTS, "--strict"),
        "--strict is not an option of the protocol activitynet; its options: --variant, --subset",
    ),
    "no such variant": (("thumos14", TEST, TEST_RESULTS, "--variant", "x"), "not 'x'"),
    "nowhere to write": (("activitynet", DATABASE, RESULTS, "--out", "/no/such/m.json"), "a folder that exists"),
    "a window that is not a number": (
        ("moment-retrieval", QUERIES, [windows([0, 1, 1]), windows([0, NAN, 1], qid=2)]),
        '1 of 2 predictions are wrong; the first is line 2: "pred_relevant_windows" has [0, nan, 1]',
    ),
    "a window in quotes": (("moment-retrieval", QUERIES, [windows(["0", 1, 1])]), "has ['0', 1, 1], not numbers"),
    "other queries": (
        ("moment-retrieval", QUERIES, [windows([0, 1, 1], qid="1")]),
        "none of its 1 predictions is of a query … '1' is not, but 1 is: one is text, the other a number",
    ),
    "no query": (("qvhighlights", QUERIES, [{"pred_relevant_windows": []}]), 'line 1: "qid" must tell the query'),
    "a query twice": (("qvhighlights", QUERIES * 2, WINDOWS), "2 qids of 2 occur more than once; first: 1"),
    "broken lines": (("moment-retrieval", QUERIES, lines(windows([0, 1])) + '\n{"qid'), "line 2: not JSON"),
    "actions for moments": (("moment-retrieval", QUERIES, RESULTS), "it looks like ActivityNet-style predictions"),
    "captions without text": (
        ("moment-retrieval", {"a": {"timestamps": [[0, 1]], "sentences": [True]}}, WINDOWS),
        '"a": a sentence must be text, not True',
    ),
    "captions without times": (
        ("moment-retrieval", {"a": {"timestamps": [], "sentences": ["x"]}}, WINDOWS),
        '"a" has no "timestamps" and "sentences" of one length',
    ),
    "windows without a score": (
        ("qvhighlights", QUERIES, [windows([0, 1]), windows([0, 1], qid=2)]),
        "the windows of 2 of 2 queries have no score",
    ),
    "scores for some": (
        ("qvhighlights", HIGHLIGHTS, [WINDOWS[0], windows([0, 1, 1])]),
        '1 of 2 predictions have no "pred_saliency_scores", others have; first: line 2',
    ),
    "highlights without annotations": (
        ("qvhighlights", QUERIES, WINDOWS),
        '2 of 2 queries are wrong; the first is query 1: "duration", "relevant_clip_ids"',
    ),
    "clips outside the video": (
        ("qvhighlights", changed(HIGHLIGHTS, relevant_clip_ids=[-1, 0]), WINDOWS),
        "1 of 2 queries are wrong",
    ),
    "an endless score": (
        ("tvsum", DOMAINS, changed(CLIP_SCORES, pred_saliency_scores=[1, NAN, 2, 3])),
        'line 1: "pred_saliency_scores" has a number that is not finite',
    ),
    "TVSum is not YouTube": (("youtube-highlights", DOMAINS, CLIP_SCORES), "is this a file of the protocol tvsum?"),
    "YouTube is not TVSum": (("tvsum", CLIPS, CLIP_SCORES), "a file of the protocol youtube-highlights?"),
    "another number of frames": (
        ("segmentation", FRAMES, changed(FRAME_LABELS, labels=[1, 2])),
        "1 of 2 videos have another number of frames than in … first: 'a', 2 instead of 8",
    ),
    "other labels": (
        ("segmentation", FRAMES, [{"video_id": "b", "labels": ["run"] * 4}]),
        "none of its labels occurs in … 'run' does not, but '1' does",
    ),
    "YouCook2's file without the subset": (
        (
            "moment-retrieval",
            {"database": {"a": {"subset": "training", "annotations": []}}},
            WINDOWS,
        ),
        'no videos of subset "validation"; there are: training (1 videos). Choose one with --subset.',
    ),
    "a sentence without a segment": (
        (
            "moment-retrieval",
            {"database": {"a": {"subset": "validation", "annotations": [{"sentence": "x"}, {"segment": [0, 1]}]}}},
            WINDOWS,
        ),
        '2 of 2 queries are wrong; the first is database["a"]: "segment" and "sentence" are needed',
    ),
    "frames without times for segments": (
        (
            "segmentation",
            {"database": {"a": {"subset": "testing", "annotation": [action(0, 4, "boil")]}}},
            [{"video_id": "a", "pred": ["boil"]}],
        ),
        """the prediction of 'a' needs "times_s", the time of each of its labels""",
    ),
    "times that are too few": (
        ("segmentation", FRAMES, [{"video_id": "a", "labels": ["x", "y"], "times_s": [1]}]),
        '"times_s" must be one finite number per label',
    ),
    "videos without a label": (
        ("classification", [{"video_id": "a"}], [{"video_id": "a", "best": [["x", 1]]}]),
        '1 of 1 videos are wrong; the first is line 1: "video_id" and "label" are needed',
    ),
    "videos without a ranking": (
        ("classification", [{"video_id": "a", "label": "x"}], [{"video_id": "a", "best": ["x"]}]),
        '"best", a list of [label, score], are needed',
    ),
    "other videos": (
        ("classification", [{"video_id": "a", "label": "x"}], [{"video_id": "b", "best": [["x", 1]]}]),
        "none of its 1 videos is in … for example 'b' is not, but 'a' is",
    ),
    "no such background": (
        ("segmentation", FRAMES, FRAME_LABELS, "--background", "x"),
        'no frame has the label "x"; there are 0, 1, 2, 3',
    ),
    "scores of unequal length": (
        ("segmentation", FRAMES, [{"video_id": "a", "scores": [[1], [1, 2]]}]),
        "one list of numbers per frame, all of one length",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case, tmp_path, capsys):
    arguments, message = REFUSED[case]
    assert evaluate(tmp_path, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("unloc: error: ") and printed.err.count("\n") == 1
    at = 0
    for part in message.split(" … "):
        assert part in printed.err[at:]
        at = printed.err.index(part, at)


WARNED = {
    "unknown videos": (
        ("activitynet", DATABASE, {"results": RESULTS["results"] | {"z": [GOOD, GOOD], "c": [GOOD]}}),
        "2 of 4 predicted videos are not in the evaluated subset (1 are of another subset): their 3 predictions"
        " are false positives; first: z",
    ),
    "a video without predictions": (
        ("activitynet", DATABASE, {"results": {"a": [GOOD], "b": []}}),
        "1 of 2 videos have no predictions: their segments are missed; first: b",
    ),
    "no predictions at all": (("activitynet", DATABASE, {"results": {}}), "2 of 2 videos have no predictions"),
    "classes without ground truth": (
        ("activitynet", DATABASE, actions(GOOD, action(0, 1, "swim", 1))),
        "1 of 2 predictions are of 1 classes without ground truth and do not count; first: 'swim'",
    ),
    "a video twice": (
        ("activitynet", DATABASE, '{"results": {"a": [], "a": [' + json.dumps(GOOD) + "]}}"),
        "1 videos of … occur twice: the last one counts",
    ),
    "equal scores": (
        ("activitynet", DATABASE, actions(GOOD, action(20, 30, "run", 0.9), action(1, 2, "run", 0.5))),
        "2 of 3 predictions share their score with another one of their class",
    ),
    "a reversed prediction": (
        ("activitynet", DATABASE, actions(GOOD, action(9, 2, "run", 0.5))),
        '1 of 2 predictions are reversed, start after end; first: results["a"][1], [9.0, 2.0]',
    ),
    "negative times": (
        ("activitynet", DATABASE, actions(GOOD, action(-1, 2, "run", 0.5))),
        '1 of 2 predictions start before 0 s: they count as they are; first: results["a"][1], [-1.0, 2.0]',
    ),
    "no ambiguous regions": (
        ("thumos14", json.loads(json.dumps(TEST).replace("Ambiguous", "run")), TEST_RESULTS, "--variant", "devkit"),
        "has no ambiguous regions: detections there are false positives",
    ),
    "relative times": (
        ("activitynet", DATABASE, actions(action(0.1, 0.4, "run", 0.5))),
        "no prediction hits anything: half of them end before 0.4 s, half of the ground truth before 10 s",
    ),
    "relative moments": (
        ("moment-retrieval", QUERIES, [windows([0.1, 0.2, 1]), windows([0.1, 0.3, 1], qid=2)]),
        "no prediction hits anything: half of them end before 0.25 s",
    ),
    "unknown queries": (
        ("moment-retrieval", QUERIES, [*WINDOWS, windows([0, 1, 1], qid=9)]),
        "1 of 3 predictions of … are of queries that the ground truth does not have: ignored; first: 9",
    ),
    "a query without prediction": (
        ("moment-retrieval", QUERIES, WINDOWS[:1]),
        "1 of 2 queries have no prediction: they are missed; first: 1",
    ),
    "a query predicted twice": (
        ("moment-retrieval", QUERIES, [windows([0, 1, 1]), *WINDOWS]),
        "1 of 2 queries are predicted more than once: the last one counts; first: 1",
    ),
    "windows out of order": (
        ("moment-retrieval", QUERIES, [windows([0, 10, 0.1], [5, 6, 0.9]), WINDOWS[0]]),
        "the windows of 1 of 2 queries are not in descending score: they count in their given order",
    ),
    "too few clips": (
        ("tvsum", DOMAINS, changed(CLIP_SCORES, pred_saliency_scores=[1, 2])),
        "1 of 2 predictions have fewer scores than their video has clips: the others do not count; first: line 1",
    ),
    "a sequence without prediction": (
        ("segmentation", FRAMES, FRAME_LABELS[:1]),
        "1 of 2 videos have no prediction: left out; first: b",
    ),
    "labels without ground truth": (
        ("segmentation", FRAMES, FRAME_LABELS),
        "1 of 4 labels (1 predicted frames) have no ground truth; first: 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WARNED)
def test_warns(case, tmp_path, capsys):
    arguments, message = WARNED[case]
    assert evaluate(tmp_path, *arguments) == 0
    printed = capsys.readouterr()
    warned = [line for line in printed.err.splitlines() if line.startswith("unloc: warning: ")]
    assert len(warned) == len(printed.err.splitlines())
    assert any(all(part in line for part in message.split(" … ")) for line in warned), printed.err
    assert "warning" not in printed.out


def test_blocked_videos(tmp_path, capsys):
    blocked = tmp_path / "blocked.json"
    for content, message in (
        ('["nope"]', "none of the 1 blocked videos is in"),
        ('{"a": 1}', "a JSON list of video ids is needed"),
        ('["a", "b"]', 'no videos of subset "validation"'),
    ):
        blocked.write_text(content)
        assert evaluate(tmp_path, "activitynet", DATABASE, RESULTS, "--blocked-videos", str(blocked)) == 2
        assert message in capsys.readouterr().err
    blocked.write_text('["a"]')
    assert evaluate(tmp_path, "activitynet", DATABASE, RESULTS, "--blocked-videos", str(blocked)) == 0
    assert "predictions                  1\n" in capsys.readouterr().out


def test_names_that_are_numbers(tmp_path, capsys):
    """A class, a query or an id that is a number in one file and text in the other is the same."""
    truth = {
        "database": {"a": {"subset": "validation", "annotations": [action(0, 10, 3), action(20, 30, "0")]}}
    }
    found = actions(action(0, 10, "3", 0.9), action(20, 30, 0, 0.8))
    assert evaluate(tmp_path, "activitynet", truth, found) == 0
    assert "average_mAP 100.00" in " ".join(capsys.readouterr().out.split())
    truth = [{"vid": 7, "query": 3, "relevant_windows": [[0, 10]]}]
    found = [{"vid": "7", "query": "3", "pred_relevant_windows": [[0, 10, 1]]}]
    for one, other in ((truth, found), ([truth[0] | found[0]], [found[0] | {"vid": 7, "query": 3}])):
        assert evaluate(tmp_path, "moment-retrieval", one, other) == 0
        assert "mIoU 100.00" in " ".join(capsys.readouterr().out.split())
