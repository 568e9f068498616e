import collections
import functools
import itertools
import json
import subprocess
import sys

import av
import numpy as np
import pytest

from data_pipelines.synthetic import synthesize as synthesize_module
from data_pipelines.synthetic.language import MOTION_WORDS, SHAPE_WORDS
from data_pipelines.synthetic.render import RGB
from data_pipelines.synthetic.scene import make_scene
from data_pipelines.synthetic.synthesize import synthesize
from tests.data_pipelines.killed_parent import assert_workers_end_with_their_parent
from unloc_jax.errors import UserError

TINY = {"num_train": 4, "num_val": 1, "num_test": 1, "seed": 10}
FPS = 10


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "data"
    summary = synthesize(out, **TINY, workers=1)
    return out, summary


@pytest.fixture(scope="module")
def scenes():
    return [make_scene(np.random.default_rng([7, i]), FPS) for i in range(400)]


def queries_of(scene):
    return [event for event in scene.events if event.sentence is not None]


def captions_of(out):
    return {
        video_id: video
        for split in ("train", "val", "test")
        for video_id, video in json.loads((out / f"annotations/captions_{split}.json").read_text()).items()
    }


@functools.cache
def decode(path):
    """Times [F] and frames uint8 [F, H, W, 3]."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return np.array([f.time for f in frames]), np.stack([f.to_ndarray(format="rgb24") for f in frames])


def contents(out):
    return {path.relative_to(out): path.read_bytes() for path in out.glob("*/*")}


# --- what happens


def test_a_video_has_the_stated_number_of_events_and_length(scenes):
    assert {len(queries_of(scene)) for scene in scenes} == {4, 5}
    assert {len(scene.events) - len(queries_of(scene)) for scene in scenes} == {1}
    durations_s = [scene.duration_s for scene in scenes]
    assert 10 <= min(durations_s) < 11
    assert 19 < max(durations_s) <= 20
    for scene in scenes:
        assert scene.num_frames == pytest.approx(FPS * scene.duration_s)
        for event in scene.events:
            assert 0 <= event.start_cs < event.end_cs and event.end_cs / 100 <= scene.duration_s
            assert 50 <= event.end_cs - event.start_cs <= 70 * scene.duration_s + 1


def test_every_caption_has_one_right_event(scenes):
    for scene in scenes:
        actions = [(event.color, event.shape, event.motion) for event in scene.events]
        assert len(set(actions)) == len(actions)


def test_rivals_differ_only_by_motion_or_only_by_object(scenes):
    only = collections.Counter()
    for scene in scenes:
        with_both = 0
        for query in queries_of(scene):
            others = [event for event in queries_of(scene) if event is not query]
            same_object = [e for e in others if (e.color, e.shape) == (query.color, query.shape)]
            same_motion = [e for e in others if e.motion == query.motion]
            with_both += bool(same_object and same_motion)
            for rival in same_motion:
                only[(rival.color != query.color, rival.shape != query.shape)] += 1
        assert with_both >= 1
    assert set(only) == {(True, False), (False, True), (True, True)}
    assert min(only.values()) > 0.15 * only.total()


def test_distractors_overlap_a_query_and_many_are_rivals(scenes):
    rivals = total = 0
    for scene in scenes:
        for distractor in scene.events:
            if distractor.sentence is not None:
                continue
            overlaps = [
                (min(q.end_cs, distractor.end_cs) - max(q.start_cs, distractor.start_cs))
                / min(q.end_cs - q.start_cs, distractor.end_cs - distractor.start_cs)
                for q in queries_of(scene)
            ]
            assert max(overlaps) > 0.45
            total += 1
            rivals += any(
                (q.color, q.shape) == (distractor.color, distractor.shape) or q.motion == distractor.motion
                for q in queries_of(scene)
            )
    assert 0.5 < rivals / total < 0.95


def test_lengths_are_about_log_uniform(scenes):
    position = sorted(
        np.log((event.end_cs - event.start_cs) / 50) / np.log(0.7 * scene.duration_s / 0.5)
        for scene in scenes
        for event in scene.events
    )
    # Kolmogorov-Smirnov distance to the uniform distribution on [0, 1].
    distance = np.abs(position - np.linspace(0, 1, len(position))).max()
    assert len(position) > 2000
    assert distance < 0.06


def test_at_most_two_objects_at_once_and_frames_are_those_within_the_event(scenes):
    for scene in scenes:
        visible = [
            [k for k in range(scene.num_frames) if event.start_cs <= 10 * k < event.end_cs]
            for event in scene.events
        ]
        assert [list(event.path.frames) for event in scene.events] == visible
        assert max(collections.Counter(itertools.chain(*visible)).values()) <= 2


def test_motions_are_clearly_visible_and_stay_inside_the_frame(scenes):
    direction = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    for event in (event for scene in scenes for event in scene.events):
        first, last = event.path.first, event.path.last
        for pose in (first, last):
            assert all(pose.diameter / 2 <= c <= 1 - pose.diameter / 2 for c in (pose.x, pose.y))
        moved = np.array([last.x - first.x, last.y - first.y])
        if event.motion in direction:
            assert first.diameter == last.diameter and 0.28 <= first.diameter <= 0.38
            distance = moved @ direction[event.motion]
            assert distance >= 0.35 and np.abs(moved).sum() == pytest.approx(distance)
        else:
            ratio = last.diameter / first.diameter
            assert not moved.any() and (ratio if event.motion == "grow" else 1 / ratio) >= 2.2


def test_no_object_is_hidden_for_long(scenes):
    centres = (np.arange(32) + 0.5) / 32
    x, y = np.meshgrid(centres, centres)
    for scene in scenes[:25]:
        seen = collections.defaultdict(list)
        for k in range(scene.num_frames):
            covered = np.zeros_like(x, dtype=bool)
            for i, event in reversed(list(enumerate(scene.events))):
                if k in event.path.frames:
                    cx, cy, diameter = event.path.boxes()[k - event.path.frames.start]
                    area = (abs(x - cx) < diameter / 2) & (abs(y - cy) < diameter / 2)
                    seen[i].append((area & ~covered).sum() / area.sum())
                    covered |= area
        assert min(np.mean(values) for values in seen.values()) > 0.7


# --- files


def test_annotations_say_what_the_formats_ask_for(dataset):
    out, _ = dataset
    activities = json.loads((out / "annotations/activities.json").read_text())
    leaves = {node["nodeName"] for node in activities["taxonomy"] if node["parentId"] is not None}
    assert len(leaves) == 6 and {"moves left", "grows"} <= leaves
    captions = captions_of(out)
    assert captions.keys() == activities["database"].keys() == {p.stem for p in out.glob("videos/*.mp4")}
    subsets = collections.Counter(video["subset"] for video in activities["database"].values())
    assert subsets == {"training": 4, "validation": 1, "testing": 1}
    verbs = {"grow": "grows", "shrink": "shrinks"}
    for video_id, video in captions.items():
        entry = activities["database"][video_id]
        assert entry["duration"] == video["duration"]
        assert len(video["sentences"]) == len(video["timestamps"]) == len(video["attributes"])
        labelled = [(*a["segment"], a["label"]) for a in entry["annotations"]]
        assert {label for *_, label in labelled} <= leaves
        assert len(labelled) > len(video["sentences"])  # the distractors
        for (start_s, end_s), sentence, attributes in zip(
            video["timestamps"], video["sentences"], video["attributes"]
        ):
            assert [start_s, end_s] == [round(start_s, 2), round(end_s, 2)]
            assert 0 <= start_s < end_s <= video["duration"]
            color, shape = attributes["object"].split()
            motion = attributes["motion"]
            assert f" {color} " in sentence
            assert any(f" {word} " in sentence for word in SHAPE_WORDS[shape])
            assert any(sentence.endswith(f" {words}") for words in MOTION_WORDS[motion])
            assert sentence.split()[0] == "the" or sentence.startswith("an " if color == "orange" else "a ")
            assert (start_s, end_s, verbs.get(motion, f"moves {motion}")) in labelled


def test_videos_are_h264_of_the_annotated_duration(dataset):
    out, summary = dataset
    for video_id, video in captions_of(out).items():
        path = out / "videos" / f"{video_id}.mp4"
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height, stream.average_rate) == (128, 128, FPS)
            assert container.duration / av.time_base == pytest.approx(video["duration"], abs=1 / FPS)
        times_s, _ = decode(path)
        np.testing.assert_allclose(times_s, np.arange(round(FPS * video["duration"])) / FPS, atol=1e-3)
        data = path.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")  # faststart
    assert summary["megabytes"] == pytest.approx(
        sum(path.stat().st_size for path in out.glob("videos/*")) / 1e6, abs=0.06
    )


def test_pixels_show_each_event_when_and_only_when_it_happens(dataset):
    out, _ = dataset
    database = json.loads((out / "annotations/activities.json").read_text())["database"]
    checked = collections.Counter()
    for video_id, video in captions_of(out).items():
        times_s, frames = decode(out / "videos" / f"{video_id}.mp4")
        segments = [annotation["segment"] for annotation in database[video_id]["annotations"]]
        assert not any(pixels_of(color, frames[without_event(times_s, segments)]).any() for color in RGB)
        for (start_s, end_s), attributes in zip(video["timestamps"], video["attributes"]):
            if sum(a < end_s and start_s < b for a, b in segments) > 1:
                continue
            mask = pixels_of(attributes["object"].split()[0], frames)
            inside = (times_s >= start_s - 1e-6) & (times_s < end_s - 1e-6)
            area = mask.sum(axis=(1, 2))
            assert area[inside].min() > 40
            k = np.flatnonzero(inside)
            before_after = [i for i in (k[0] - 1, k[-1] + 1) if 0 <= i < len(frames)]
            assert area[before_after].max(initial=0) == 0
            assert seen_motion(mask[k[0]], mask[k[-1]]) == attributes["motion"]
            checked[attributes["motion"]] += 1
    assert checked.total() >= 3


def without_event(times_s, segments):
    """The frames that show no event: bool [F]."""
    return np.all([(times_s < s - 1e-6) | (times_s >= e - 1e-6) for s, e in segments], axis=0)


def pixels_of(color, frames):
    return np.linalg.norm(frames.astype(float) - RGB[color], axis=-1) < 45


def seen_motion(first, last):
    """The motion between two masks [H, W], by area and centre."""
    ratio = np.sqrt(last.sum() / first.sum())
    if not 0.6 < ratio < 1.6:
        return "grow" if ratio > 1 else "shrink"
    down, right = (np.mean(np.nonzero(last), axis=1) - np.mean(np.nonzero(first), axis=1)) / len(first)
    assert max(abs(down), abs(right)) > 0.35
    if abs(right) > abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


# --- trimmed clips


def test_an_event_fills_a_trimmed_clip(tmp_path):
    out = tmp_path / "clips"
    synthesize(out, num_train=5, num_val=0, num_test=1, seed=3, trimmed=True, workers=1)
    labels = json.loads((out / "annotations/activities.json").read_text())
    assert len(labels["taxonomy"]) == 1 + 6 * 3 * 6
    classes = {node["nodeName"] for node in labels["taxonomy"]}
    for video_id, video in captions_of(out).items():
        (times_s,), (sentence,), (attributes,) = (video[k] for k in ("timestamps", "sentences", "attributes"))
        (event,) = labels["database"][video_id]["annotations"]
        assert times_s == event["segment"] == [0, video["duration"]] and 2 <= video["duration"] <= 6
        color, shape = attributes["object"].split()
        assert any(word in sentence for word in MOTION_WORDS[attributes["motion"]])
        assert event["label"].startswith(f"{color} {shape} ") and event["label"] in classes

        seconds, frames = decode(out / f"videos/{video_id}.mp4")
        assert seconds[-1] + 1 / FPS == pytest.approx(video["duration"], abs=0.01)
        assert seen_motion(*(pixels_of(color, frames[i]) for i in (0, -1))) == attributes["motion"]

    with pytest.raises(UserError, match=r"trimmed=True \(now False\)"):
        synthesize(out, num_train=5, num_val=0, num_test=1, seed=3, workers=1)


# --- making, reusing, refusing


def test_the_seed_decides(dataset, tmp_path):
    out, _ = dataset
    synthesize(tmp_path / "again", **TINY, workers=1)
    assert contents(tmp_path / "again") == contents(out)
    synthesize(tmp_path / "other", num_train=1, num_val=0, num_test=0, seed=1, workers=1)
    first = "videos/train_00000.mp4"
    assert (tmp_path / "other" / first).read_bytes() != (out / first).read_bytes()


@pytest.mark.slow
def test_the_number_of_workers_does_not_matter(dataset, tmp_path):
    out, _ = dataset
    synthesize(tmp_path / "data", **TINY, workers=2)
    for path in sorted((out / "annotations").iterdir()):
        assert (tmp_path / "data/annotations" / path.name).read_bytes() == path.read_bytes()
    for path in sorted((out / "videos").iterdir()):
        (_, frames), (_, other) = decode(path), decode(tmp_path / "data/videos" / path.name)
        np.testing.assert_array_equal(frames[[0, -1]], other[[0, -1]])


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, sys, time\n"
        "from data_pipelines.synthetic import synthesize as module\n"
        "if __name__ == '__main__':\n"
        "    jobs = [module._Job(module.Path(sys.argv[1]) / f'{i}.mp4', 'val', i, 0, 64, 8) for i in range(16)]\n"
        "    scenes = module._run(jobs, 2)\n"
        "    next(scenes)\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
        "    time.sleep(600)\n"
    )
    assert_workers_end_with_their_parent([str(script), str(tmp_path)])


def test_summary_and_reuse(dataset, capsys):
    out, summary = dataset
    assert summary["videos"] == {"train": 4, "val": 1, "test": 1}
    assert summary["queries"] == sum(len(video["sentences"]) for video in captions_of(out).values())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = synthesize(out, **TINY, workers=2)
    assert again == {**summary, "reused": True}
    assert f"reusing {out}" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_an_interrupted_run_is_completed(dataset, tmp_path, monkeypatch):
    out, _ = dataset
    encode, calls = synthesize_module._encode, []

    def failing_encode(path, *args):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half a video")
            raise KeyboardInterrupt
        encode(path, *args)

    monkeypatch.setattr(synthesize_module, "_encode", failing_encode)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "data", **TINY, workers=1)
    assert not (tmp_path / "data/synthetic.json").exists()
    synthesize(tmp_path / "data", **TINY, workers=1)
    assert len(calls) == 3 + 4  # the two finished videos are kept
    assert contents(tmp_path / "data") == contents(out)

    (tmp_path / "data/videos/val_00000.mp4").unlink()
    assert not synthesize(tmp_path / "data", **TINY, workers=1)["reused"]
    assert contents(tmp_path / "data") == contents(out)


def test_other_arguments_or_other_files_are_refused(dataset, tmp_path):
    out, _ = dataset
    with pytest.raises(UserError, match=r"seed=10 \(now 3\).*another --out, or delete"):
        synthesize(out, **TINY | {"seed": 3})
    (tmp_path / "holiday.mp4").touch()
    with pytest.raises(UserError, match="not empty and holds no synthetic videos"):
        synthesize(tmp_path, **TINY)
    with pytest.raises(UserError, match="is a file"):
        synthesize(tmp_path / "holiday.mp4", **TINY)
    with pytest.raises(UserError, match=r"holiday\.mp4/x/y: cannot write there \(Not a directory\): choose"):
        synthesize(tmp_path / "holiday.mp4" / "x" / "y", **TINY)
    (tmp_path / "synthetic.json").write_text("{")
    with pytest.raises(UserError, match=r"synthetic\.json is not readable"):
        synthesize(tmp_path, **TINY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_val": -1}, "num_val is -1"),
        ({"num_train": 0, "num_val": 0, "num_test": 0}, "at least one video"),
        ({"seed": -1}, "seed is -1"),
        ({"size": 65}, "even number"),
        ({"size": 16}, "32 or more"),
        ({"fps": 2}, "fps is 2"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        synthesize(tmp_path / "data", **arguments)
    assert not (tmp_path / "data").exists()


def test_other_sizes_and_frame_rates(tmp_path):
    synthesize(tmp_path / "data", num_train=2, num_val=0, num_test=0, size=64, fps=12, workers=1)
    for video_id, video in captions_of(tmp_path / "data").items():
        times_s, frames = decode(tmp_path / "data/videos" / f"{video_id}.mp4")
        assert frames.shape[1:] == (64, 64, 3)
        assert len(times_s) / 12 == pytest.approx(video["duration"], abs=0.01)
        assert max(end_s for _, end_s in video["timestamps"]) <= video["duration"]


def test_no_tensorflow():
    code = (
        "import sys, data_pipelines.synthetic.synthesize, data_pipelines.reading.flipped_texts; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
