"""Zero-shot splits: seen classes in training, the others in evaluation."""

import json

import numpy as np
import pytest

from data_pipelines.reading.dataset import ShardedDataset
from data_pipelines.reading.zero_shot_splits import only_classes, split_classes
from tests.tiny import tiny_config
from unloc_jax.errors import UserError
from unloc_jax.queries import file_id, not_shown
from unloc_jax.records import VideoRecord

CLASSES = [f"class {i:02d}" for i in range(20)]


@pytest.mark.parametrize(("split", "seen"), [("50/50", 10), ("75/25", 15)])
def test_classes_are_shared_out(split, seen):
    first, second = split_classes(CLASSES, split, seed=3)
    assert (len(first), len(second)) == (seen, 20 - seen)
    assert sorted(first + second) == CLASSES and first == sorted(first) and second == sorted(second)
    assert split_classes(CLASSES, split, seed=3) == (first, second)
    assert len({tuple(split_classes(CLASSES, split, seed)[0]) for seed in range(10)}) == 10


def test_no_split():
    assert split_classes(CLASSES, "all", seed=0) == (CLASSES, [])
    with pytest.raises(UserError, match="1 classes has no such split"):
        split_classes(["one"], "50/50", seed=0)


def test_only_segments_of_the_classes_stay():
    def record(name, *texts):
        segments = np.arange(2 * len(texts), dtype=np.float32).reshape(-1, 2)
        return VideoRecord(
            name, 10.0, "train", segments, list(texts), [{"n": str(i)} for i in range(len(texts))]
        )

    rows, kept = only_classes([record("a", "x", "y", "x"), record("b", "y"), record("c", "z")], ["x", "z"])
    assert rows.tolist() == [0, 2]
    assert [r.texts for r in kept] == [["x", "x"], ["z"]]
    np.testing.assert_array_equal(kept[0].segments_s, [[0, 1], [4, 5]])
    assert [a["n"] for a in kept[0].attributes] == ["0", "2"]


def zero_shot(dataset, split="50/50", **data) -> ShardedDataset:
    sizes = {"dir": str(dataset), "crop_size": 16, "num_frames": 8, "max_segments": 6}
    return ShardedDataset(
        tiny_config("temporal_action_localization", data=sizes | {"class_split": split} | data)
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_batches_are_those_of_the_records_that_stay(activities_dataset, seed):
    """Labels index the classes of their split; the frames are the record's, whose number among all is another one."""
    dataset = zero_shot(activities_dataset, class_split_seed=seed)
    whole = zero_shot(activities_dataset, split="all")
    for split, classes in (("train", dataset.metadata.classes), ("test", dataset.metadata.unseen_classes)):
        records = dataset.records(split)
        frames = np.concatenate([batch.frames for batch in whole.evaluation_batches(split)])
        number = {record.video_id: i for i, record in enumerate(whole.records(split))}
        rows = [(b, i) for b in dataset.evaluation_batches(split) for i in np.flatnonzero(b.example_mask)]
        assert len(rows) == len(records)
        for (batch, i), record in zip(rows, records):
            real = batch.segment_text[i] >= 0
            assert [classes[label] for label in batch.segment_text[i][real]] == record.texts
            grid = np.clip(record.segments_s / batch.span_s[i, 1] * 7, 0, 7)
            np.testing.assert_allclose(batch.segments[i][real], grid, atol=1e-4)
            np.testing.assert_array_equal(batch.frames[i], frames[number[record.video_id]])


def test_splits_that_leave_nothing(activities_dataset, captions_dataset, monkeypatch):
    with pytest.raises(UserError, match=r"class_split = '50/50': a dataset of 0 classes has no such split"):
        zero_shot(captions_dataset)
    seen = zero_shot(activities_dataset).metadata.classes
    every = VideoRecord("v", 9.0, "train", np.array([[0.0, 3.0]]), [seen[0]], [{}])
    monkeypatch.setattr("data_pipelines.reading.shards.iterate_records", lambda *_, **__: [every])
    with pytest.raises(
        UserError, match=r"test: no video shows one of the 3 classes that .*class_split = '50/50'"
    ):
        zero_shot(activities_dataset).records("test")


@pytest.mark.slow
def test_training_sees_none_of_the_classes_of_evaluation(config_file, activities_dataset, unloc, tmp_path):
    dataset = zero_shot(activities_dataset)
    seen, unseen = set(dataset.metadata.classes), set(dataset.metadata.unseen_classes)
    assert len(seen) == len(unseen) == 3 and not seen & unseen
    texts = lambda split: {text for record in dataset.records(split) for text in record.texts}
    assert texts("train") <= seen and texts("validation") | texts("test") <= unseen
    for batch in dataset.training_batches(0, 3):
        assert batch.segment_text.max() < 3 and (batch.segment_text >= 0).any(1).all()

    unloc(
        "train", f"--config={config_file}", f"--workdir={tmp_path}", f"--config.data.dir={activities_dataset}",
        "--config.task=temporal_action_localization", "--config.data.class_split=50/50", "--config.train.steps=3",
        "--config.data.mirror=False",
    ).ok()  # fmt: skip
    told = unloc("evaluate", f"--checkpoint={tmp_path}").ok().out
    assert "3 classes" in told
    predictions = json.loads((tmp_path / "evaluation" / "test" / "predictions.json").read_text())["results"]
    assert {row["label"] for rows in predictions.values() for row in rows} <= unseen


def test_segments_that_nobody_can_find_stay_with_their_classes():
    told = json.dumps([[4, 4, "a"], [5, 2, "b"]])
    shown = VideoRecord(
        "v", 9.0, "test", np.array([[0, 1], [1, 2]], np.float32), ["b", "a"], [{"not_shown": told}, {}]
    )
    lost = VideoRecord(
        "w", 9.0, "test", np.zeros((0, 2), np.float32), [], [{"vid": "w.mp4", "not_shown": told}]
    )
    rows, kept = only_classes([shown, lost], ["a"])
    assert rows.tolist() == [0, 1] and [record.texts for record in kept] == [["a"], []]
    assert [[(of.text, of.start_s) for of in not_shown(record)] for record in kept] == [[("a", 4)]] * 2
    assert [file_id(record) for record in kept] == ["v", "w.mp4"]
    assert only_classes([lost], ["c"])[1] == []
