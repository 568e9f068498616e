"""Shards → batches: what a batch holds, and that it is a function of (seed, step)."""

import importlib
import io
import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

from data_pipelines.build import build
from data_pipelines.reading.built import find_dataset, read_build_info
from data_pipelines.reading.example import ExampleSpec
from data_pipelines.reading.flipped_texts import mirror_text
from data_pipelines.reading.planner import Planner
from data_pipelines.reading.record_index import RecordIndex, iterate_records
from data_pipelines.reading.rows import Source
from tests.timed_video import read_time_s, regular_times_ms, write_video
from tests.tiny_runs import COUNTS, FPS, SIZE
from unloc_jax.batch import Batch
from unloc_jax.config import DataConfig
from unloc_jax.errors import UserError
from unloc_jax.text import tokenize

L = 16  # tokens per text
FIELDS = [
    name for name in Batch.__dataclass_fields__ if name not in ("features", "input_masks", "vocabulary")
]


@pytest.fixture(autouse=True, params=["input_pipeline", "grain_pipeline"])
def reader(request):
    """Runs every test with both readers."""
    global training_batches, evaluation_batches
    pytest.importorskip({"input_pipeline": "tensorflow", "grain_pipeline": "grain"}[request.param])
    module = importlib.import_module(f"data_pipelines.reading.{request.param}")
    training_batches, evaluation_batches = module.training_batches, module.evaluation_batches
    return module


def _source(dataset, split="train", classes=None, **settings) -> Source:
    config = DataConfig(
        **{"num_frames": 8, "crop_size": SIZE, "max_segments": 6, "max_queries": 6} | settings
    )
    spec = ExampleSpec(config, L, classes)
    return Source(RecordIndex.from_dir(find_dataset(dataset), split), spec)


def _train(source, start_step=0, num_steps=8, seed=0, batch_size=4, **host) -> list[Batch]:
    return list(
        training_batches(
            source, seed=seed, batch_size=batch_size, start_step=start_step, num_steps=num_steps, **host
        )
    )


def _evaluate(source, batch_size=4, **host) -> list[Batch]:
    return list(evaluation_batches(source, batch_size=batch_size, **host))


def _assert_equal(a: Batch, b: Batch) -> None:
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=field)


def _rows(batches: list[Batch], field: str) -> np.ndarray:
    return np.concatenate([getattr(batch, field) for batch in batches])


def _stored(dataset, split) -> list[tuple]:
    """(record, frames uint8 [F, H, W, 3]) of a split, decoded by Pillow."""
    return [
        (record, np.stack([np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in record.frames]))
        for record in iterate_records(find_dataset(dataset), split, with_frames=True)
    ]


def _identify(frames: np.ndarray, candidates: np.ndarray) -> int:
    """Which one of the candidates [n, T, H, W, 3] these frames are."""
    (same,) = np.nonzero((frames == candidates).all(axis=(1, 2, 3, 4)))
    assert len(same) == 1
    return int(same[0])


def test_shapes_and_dtypes(captions_dataset):
    (batch,) = _train(_source(captions_dataset, mirror=True), num_steps=1)
    expected = {
        "frames": ((4, 8, SIZE, SIZE, 3), np.uint8),
        "frame_mask": ((4, 8), np.bool_),
        "text_tokens": ((4, 6, L), np.int32),
        "text_mask": ((4, 6), np.bool_),
        "segments": ((4, 6, 2), np.float32),
        "segment_text": ((4, 6), np.int32),
        "span_s": ((4, 2), np.float32),
        "example_mask": ((4,), np.bool_),
    }
    assert {name: (getattr(batch, name).shape, getattr(batch, name).dtype) for name in FIELDS} == expected
    assert batch.frame_mask.all() and batch.example_mask.all()


def test_starting_late_gives_the_same_batches(captions_dataset):
    # Cropped and mirrored at random, with more queries than fit: all that is drawn depends on the step alone.
    source = _source(captions_dataset, mirror=True, crop_size=8, max_queries=2)
    from_start, late = _train(source), _train(source, start_step=5)
    assert (len(from_start), len(late)) == (8, 3)
    for a, b in zip(from_start[5:], late):
        _assert_equal(a, b)


def test_another_seed_gives_other_batches(captions_dataset):
    source = _source(captions_dataset)
    orders = [_rows(_train(source, num_steps=3, seed=seed), "frames") for seed in (0, 1)]
    assert not np.array_equal(*orders)


@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_share_each_batch(captions_dataset, hosts):
    source = _source(captions_dataset, mirror=True, crop_size=8)
    alone = _train(source, num_steps=5)
    shares = [_train(source, num_steps=5, host=host, num_hosts=hosts) for host in range(hosts)]
    for whole, *parts in zip(alone, *shares):
        assert {len(part.example_mask) for part in parts} == {4 // hosts}
        for field in FIELDS:
            joined = np.concatenate([getattr(part, field) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole, field), err_msg=field)


def test_every_example_once_per_epoch_in_a_new_order(captions_dataset):
    source = _source(captions_dataset)
    examples = _rows(_evaluate(source, batch_size=6), "frames")
    seen = [_identify(frames, examples) for frames in _rows(_train(source, num_steps=9), "frames")]
    epochs = np.array(seen).reshape(-1, 6)  # 9 steps of 4 are 6 epochs of 6; epochs end inside batches
    for epoch in epochs:
        assert sorted(epoch) == list(range(6))
    assert len(np.unique(epochs, axis=0)) > 1


@pytest.mark.parametrize(("batch_size", "hosts"), [(1, 1), (2, 1), (3, 1), (4, 1), (8, 1), (2, 2), (4, 2)])
def test_evaluation_covers_each_example_once(captions_dataset, batch_size, hosts):
    source = _source(captions_dataset, "test")
    shares = [_evaluate(source, batch_size, host=host, num_hosts=hosts) for host in range(hosts)]
    batches = [[np.concatenate(rows) for rows in zip(*map(_values, parts))] for parts in zip(*shares)]
    assert len(batches) == -(-COUNTS["test"] // batch_size)
    frames, real = (np.concatenate(column) for column in zip(*batches))
    assert len(frames) == len(batches) * batch_size
    np.testing.assert_array_equal(real, np.arange(len(real)) < COUNTS["test"])  # filled up at the end
    expected = _rows(_evaluate(source, batch_size=3), "frames")
    np.testing.assert_array_equal(frames[real], expected)


def _values(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    return batch.frames, batch.example_mask


def test_frames_are_the_stored_ones_spread_evenly(captions_dataset):
    (batch,) = _evaluate(_source(captions_dataset, "test"), batch_size=3)
    for row, (_, frames) in enumerate(_stored(captions_dataset, "test")):
        expected = frames[np.linspace(0, len(frames) - 1, 8).round().astype(int)]
        np.testing.assert_array_equal(batch.frames[row], expected)
        assert np.abs(frames.astype(int)[:1] - frames.astype(int)).mean() > 3  # and frames do differ


def test_segments_are_in_grid_units_and_point_to_their_texts(captions_dataset):
    (batch,) = _evaluate(_source(captions_dataset, "test"), batch_size=3)
    for row, (record, frames) in enumerate(_stored(captions_dataset, "test")):
        count, last_s = len(record.texts), (len(frames) - 1) / FPS
        np.testing.assert_allclose(batch.span_s[row], [0, last_s], rtol=1e-6)
        grid = np.clip(record.segments_s / last_s * 7, 0, 7)  # 8 frames: 7 is the last one
        np.testing.assert_allclose(batch.segments[row, :count], grid, atol=1e-5)
        np.testing.assert_array_equal(batch.segments[row, count:], 0)
        np.testing.assert_array_equal(batch.segment_text[row, count:], -1)
        texts = batch.text_tokens[row][batch.segment_text[row, :count]]
        np.testing.assert_array_equal(texts, tokenize(record.texts, L))
        np.testing.assert_array_equal(batch.text_mask[row], np.arange(6) < len(set(record.texts)))
        np.testing.assert_array_equal(batch.text_tokens[row][~batch.text_mask[row]], 0)


def test_evaluation_crops_the_middle(captions_dataset):
    whole, middle = (
        _evaluate(_source(captions_dataset, "test", crop_size=size), batch_size=3)[0].frames
        for size in (16, 8)
    )
    # Only the decoder's colour interpolation at the crop's border may differ.
    np.testing.assert_allclose(middle[..., 1:-1, 1:-1, :], whole[..., 5:11, 5:11, :], atol=2)


def test_training_crops_one_random_window_of_all_frames(captions_dataset):
    examples = _rows(_evaluate(_source(captions_dataset), batch_size=6), "frames").astype(int)
    windows = set()
    for frames in _rows(_train(_source(captions_dataset, crop_size=8), num_steps=6), "frames").astype(int):
        offsets = [(top, left) for top in range(9) for left in range(9)]
        error = {
            (top, left): np.abs(examples[:, :, top : top + 8, left : left + 8] - frames)
            .mean((1, 2, 3, 4))
            .min()
            for top, left in offsets
        }
        best = min(error, key=error.get)
        assert error[best] < 1.5
        windows.add(best)
    tops, lefts = zip(*windows)
    assert len(windows) > 8 and max(tops) - min(tops) > 4 and max(lefts) - min(lefts) > 4


def test_mirrored_examples_have_mirrored_frames_and_texts(captions_dataset):
    source = _source(captions_dataset, mirror=True)
    stored = _stored(captions_dataset, "train")
    examples = _rows(_evaluate(source, batch_size=6), "frames")  # evaluation never mirrors
    both = np.concatenate([examples, examples[:, :, :, ::-1]])
    swap = {"left": "right", "right": "left", "leftwards": "rightwards", "rightwards": "leftwards"}
    batches, mirrored, texts_changed = _train(source, num_steps=15), 0, 0
    for batch in batches:
        for row, frames in enumerate(batch.frames):
            number = _identify(frames, both)
            texts = list(stored[number % 6][0].texts)
            if number >= 6:
                mirrored += 1
                swapped = [" ".join(swap.get(word, word) for word in text.split()) for text in texts]
                texts_changed += swapped != texts
                texts = swapped
            tokens = batch.text_tokens[row][batch.segment_text[row][: len(texts)]]
            np.testing.assert_array_equal(tokens, tokenize(texts, L))
            # Times do not change.
            np.testing.assert_allclose(
                batch.segments[row, : len(texts), 0],
                np.clip(stored[number % 6][0].segments_s[:, 0] / batch.span_s[row, 1] * 7, 0, 7),
                atol=1e-5,
            )
    assert 15 < mirrored < 45  # half of 60, six standard deviations
    assert texts_changed


PROMPTS = ("{}", "a video of {}", "do you see {}")


def test_training_draws_a_prompt_for_each_example(captions_dataset):
    """One for all queries of a video, drawn anew in every epoch, by the slot alone; segments and frames stay."""
    settings = {"mirror": True, "max_queries": 3}
    plain, drawn, again = (
        _train(_source(captions_dataset, **settings, prompts=prompts), num_steps=15)
        for prompts in (("{}",), PROMPTS, PROMPTS)
    )
    stored = {text for record, _ in _stored(captions_dataset, "train") for text in record.texts}
    text_of = {tuple(tokenize([text], L)[0]): text for text in stored | set(map(mirror_text, stored))}
    used = []
    for a, b, c in zip(plain, drawn, again):
        _assert_equal(b, c)
        for field in set(FIELDS) - {"text_tokens"}:
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=field)
        for without, mask, tokens in zip(a.text_tokens, a.text_mask, b.text_tokens):
            texts = [text_of[tuple(row)] for row in without[mask].tolist()]
            filled = [tokenize([prompt.replace("{}", text) for text in texts], L) for prompt in PROMPTS]
            used.append([i for i, expected in enumerate(filled) if np.array_equal(tokens[mask], expected)])
    assert all(len(one) == 1 for one in used)
    counts = np.bincount([one[0] for one in used], minlength=3)
    assert counts.sum() == 60 and counts.min() > 8  # a third of 60 each, more than three standard deviations
    by_epoch = np.array([one[0] for one in used]).reshape(-1, 6)
    assert len(np.unique(by_epoch, axis=0)) > 3


def test_more_queries_than_fit(captions_dataset):
    source = _source(captions_dataset, max_queries=2)
    stored = _stored(captions_dataset, "train")
    examples = _rows(_evaluate(_source(captions_dataset), batch_size=6), "frames")
    wanted = {(v, text) for v, (record, _) in enumerate(stored) for text in record.texts}
    assert max(len(set(record.texts)) for record, _ in stored) > 2
    seen = set()
    for batch in _train(source, num_steps=45):
        for row, frames in enumerate(batch.frames):
            video = _identify(frames, examples)
            record = stored[video][0]
            tokens = tokenize(record.texts, L)
            number = batch.segment_text[row]
            assert number.max() < 2
            for segment, query in zip(batch.segments[row], number):
                if query < 0:
                    continue
                (matches,) = np.nonzero((tokens == batch.text_tokens[row, query]).all(-1))
                grid = np.clip(record.segments_s[matches] / batch.span_s[row, 1] * 7, 0, 7)
                assert np.abs(grid - segment).max(-1).min() < 1e-4
                seen.add((video, record.texts[matches[0]]))
    assert seen == wanted  # in 30 epochs every query has had its turn


def test_more_segments_than_fit(captions_dataset):
    (batch,) = _evaluate(_source(captions_dataset, "test", max_segments=1), batch_size=3)
    assert batch.segments.shape == (3, 1, 2)
    # A query whose segment is left out would be trained as happening nowhere: it is masked.
    assert (np.arange(batch.text_mask.shape[1]) == batch.segment_text).tolist() == batch.text_mask.tolist()


def test_each_segment_has_its_turn(captions_dataset):
    source = _source(captions_dataset, max_segments=2)
    stored = list(iterate_records(find_dataset(captions_dataset), "train", with_frames=False))
    assert max(len(record.texts) for record in stored) > 2
    wanted = {float(start) for record in stored for start in record.segments_s[:, 0]}
    seen = set()
    for batch in _train(source, num_steps=45):
        real = batch.segment_text >= 0
        assert real.sum(1).max() == 2
        starts = batch.segments[..., 0] * batch.span_s[:, 1:] / 7
        seen |= {min(wanted, key=lambda s: abs(s - start)) for start in starts[real].tolist()}
    assert seen == wanted


def test_vocabulary(activities_dataset):
    classes = read_build_info(activities_dataset)["classes"]
    assert classes == sorted(classes)
    (batch,) = _evaluate(_source(activities_dataset, "test", classes, max_segments=8), batch_size=3)
    assert batch.text_tokens.shape == (3, 0, L) and batch.text_mask.shape == (3, 0)
    for row, (record, _) in enumerate(_stored(activities_dataset, "test")):
        real = batch.segment_text[row] >= 0
        assert [classes[i] for i in batch.segment_text[row][real]] == record.texts[:8]


def test_times_survive_the_whole_way(tmp_path):
    """Videos whose pictures show their own time: a batch's times are those that its pictures show."""
    lengths_s = {"a": 3.0, "b": 4.4, "c": 9.0}
    (tmp_path / "videos").mkdir()
    for name, length_s in lengths_s.items():
        write_video(tmp_path / "videos" / f"{name}.mp4", regular_times_ms(length_s), size=(96, 96))
    content = {
        name: {"duration": length_s, "timestamps": [[0.5, 1.5]], "sentences": ["it happens"]}
        for name, length_s in lengths_s.items()
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    out = tmp_path / "out"
    build(
        "activitynet_captions",
        [tmp_path / "train.json"],
        tmp_path / "videos",
        out,
        fps=8,
        short_side=48,
        workers=1,
    )
    source = _source(out, crop_size=48, num_frames=16)
    for batch in [*_train(source, num_steps=2, batch_size=3), *_evaluate(source, batch_size=3)]:
        for frames, (first_s, last_s), segment in zip(batch.frames, batch.span_s, batch.segments[:, 0]):
            step_s = (last_s - first_s) / 15
            shown_s = np.array([read_time_s(frame) for frame in frames])
            # Half of the stored frames' 1/8 s, half of the video's 40 ms, and the picture's 10 ms.
            assert np.abs(shown_s - (first_s + np.arange(16) * step_s)).max() <= 0.5 / 8 + 0.02 + 0.01
            np.testing.assert_allclose(first_s + segment * step_s, [0.5, 1.5], atol=1e-5)
    assert sorted(_rows(_evaluate(source), "span_s")[:3, 1]) == pytest.approx([23 / 8, 35 / 8, 71 / 8])


@pytest.mark.parametrize("end", ["closed", "error"])
def test_nothing_is_read_after_the_end(reader, captions_dataset, monkeypatch, end):
    """Threads of TensorFlow that call Python when Python ends would abort the process, or hang."""
    calls, running, plan = [], [], Planner.plan

    def slow(self, place):
        calls.append(place)
        running.append(place)
        time.sleep(0.05)
        running.pop()
        if end == "error" and len(calls) > 6:
            raise RuntimeError("on purpose")
        return plan(self, place)

    monkeypatch.setattr(Planner, "plan", slow)
    source = _source(captions_dataset, num_workers=4)
    batches = training_batches(source, seed=0, batch_size=4, start_step=0, num_steps=1000)
    if end == "closed":
        next(batches)
        batches.close()
    else:
        with pytest.raises(Exception, match="on purpose") as kept:  # it refers to the frames that raised it
            list(batches)
        assert kept.tb
    before = len(calls)
    # Python waits for Grain's threads itself: each may finish a row.
    after_end = 4 if reader.__name__.endswith("grain_pipeline") else 0
    assert before < 1000 and len(running) <= after_end
    time.sleep(0.3)
    assert len(calls) <= before + after_end


def test_a_bit_flipped_after_the_first_read_is_found(captions_dataset, tmp_path, capfd):
    folder = tmp_path / "copy"
    shutil.copytree(find_dataset(captions_dataset), folder)
    config = DataConfig(num_frames=8, crop_size=SIZE, max_segments=6, max_queries=6, max_unreadable=0.5)
    source = Source(RecordIndex.from_dir(folder, "train"), ExampleSpec(config, L, None))
    epoch = len(source) // 4
    batches = training_batches(source, seed=0, batch_size=4, start_step=0, num_steps=50 * epoch)
    assert all(next(batches).example_mask.all() for _ in range(epoch + 1))
    index = source.records
    shard = index.files[0]
    with shard.open("r+b") as file:  # one byte: readers ahead must not find a short file
        place = int(index.offsets[0]) + int(index.lengths[0]) // 2  # in a picture, which can still be decoded
        file.seek(place)
        flipped = bytes([file.read(1)[0] ^ 1])
        file.seek(place)
        file.write(flipped)
    assert not all(batch.example_mask.all() for batch in batches)
    assert f"{shard}: record 0 is corrupted (checksum)" in capfd.readouterr().err
    with pytest.raises(UserError, match=r"record 0 is corrupted \(checksum\)"):
        _evaluate(source)
