"""Videos embedded once, texts in chunks: the same numbers as everything at once."""

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from tests.timed_video import regular_times_ms, write_video
from tests.tiny import random_params, tiny_metadata, tiny_task
from unloc_jax.config import MeshConfig
from unloc_jax.errors import UserError
from unloc_jax.frame_inputs import ArrayFrames, sample_frames
from unloc_jax.inference import localizer as localizer_module
from unloc_jax.inference.embedded_video import EmbeddedVideo
from unloc_jax.inference.loaded_model import LoadedModel
from unloc_jax.inference.localizer import Localizer, _batch_of
from unloc_jax.training.sharding import make_mesh
from unloc_jax.video import FrameStream

FRAMES = np.random.default_rng(0).integers(0, 256, (50, 18, 24, 3), np.uint8)  # 10 s at 5 fps
TEXTS = ["a man runs", "the dog jumps over it", "someone waves"]


def untrained(task: str, **changes: Any) -> LoadedModel:
    made = tiny_task(task, **changes)
    return LoadedModel(
        Path("run/checkpoints/1"),
        made,
        random_params(made),
        tiny_metadata(),
        make_mesh(MeshConfig(), 2),
        task,
    )


def close(prediction, other):
    assert [text.text for text in prediction] == [text.text for text in other]
    for text, same in zip(prediction, other):
        np.testing.assert_allclose(text.relevance, same.relevance, atol=1e-5)
        values = lambda found: [(s.start_s, s.end_s, s.score) for s in found.segments]
        np.testing.assert_allclose(values(text), values(same), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "task, model",
    [
        ("moment_retrieval", {"fusion": {"all_text_tokens": True}}),
        ("temporal_action_localization", {"head": {"offsets_per_text": False}}),
        ("moment_retrieval", {"fusion": {"type": "late"}}),
        ("action_segmentation", {}),
        ("classification", {}),
    ],
    ids=["tokens", "shared", "late", "segmentation", "classification"],
)
def test_apart_and_in_chunks_as_all_at_once(task, model, monkeypatch):
    """Against `Task.detect`, which encodes and detects at once, for all texts together."""
    monkeypatch.setattr(localizer_module, "_TEXTS_AT_ONCE", 2)
    prompts = ("{}", "a video of {}") if task == "moment_retrieval" else ("{}",)
    loaded = untrained(task, model=model, data={"prompts": prompts})
    localizer = Localizer(loaded)
    found = localizer(FRAMES, TEXTS, fps=5)
    frames = ArrayFrames(FRAMES, frames_fps=5, fps=5, short_side=16)
    (seen,) = sample_frames(frames, "", fps=5, data=loaded.task.config.data)
    encoded = loaded.task.encoding(TEXTS)[None]
    output = jax.device_get(jax.jit(loaded.task.detect)(loaded.params, _batch_of(seen), encoded))
    if output.curve is not None:
        np.testing.assert_allclose([text.relevance for text in found], output.curve[0], atol=1e-5)
    for text, (segments, scores) in zip(found, loaded.task.segments(output, 0, seen.span_s)):
        np.testing.assert_allclose([s.score for s in text.segments], scores, atol=1e-5)
        ours = np.array([(s.start_s, s.end_s) for s in text.segments]).reshape(-1, 2)
        np.testing.assert_allclose(ours, segments, atol=1e-4)
    if task == "action_segmentation":
        assert sum(len(text.segments) for text in found) > 1


def test_frames_of_an_array_are_those_of_a_file(tiny_videos):
    file = tiny_videos / "videos" / "test_00000.mp4"
    whole = np.stack(list(FrameStream(file, fps=5, short_side=64)))
    for fps in (2, 5, 7):
        stream = FrameStream(file, fps=fps, short_side=64)
        array = ArrayFrames(whole, frames_fps=5, fps=fps, short_side=64)
        np.testing.assert_array_equal(np.stack(list(array)), np.stack(list(stream)))
        assert array.duration_s == pytest.approx(stream.duration_s)
    small = np.stack(list(ArrayFrames(whole, frames_fps=5, fps=5, short_side=16))).astype(int)
    # A file's colours, which have half the resolution, are resized before they become RGB: not the same at edges.
    of_file = np.stack(list(FrameStream(file, fps=5, short_side=16)))
    assert small.shape == of_file.shape and np.abs(small - of_file).mean() < 4
    by_pillow = [
        np.asarray(Image.fromarray(frame).resize((16, 16), Image.Resampling.BILINEAR)) for frame in whole
    ]
    assert np.abs(small - np.stack(by_pillow)).mean((1, 2, 3)).max() < 1
    for wrong, fps in ((whole[0], 5), (whole / 255.0, 5), (whole[:0], 5), (whole, None), (whole, 0)):
        with pytest.raises(UserError, match=r"frames must be|fps is needed"):
            ArrayFrames(wrong, frames_fps=fps, fps=5, short_side=16)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return untrained("moment_retrieval")


def counted(localizer: Localizer) -> list[str]:
    """The names of what it embeds from now on."""
    embed, names = localizer._embed, []
    localizer._embed = lambda frames, name: names.append(name) or embed(frames, name)
    return names


def test_what_there_is_to_say_about_a_video_comes_with_the_prediction(model, tmp_path):
    late = [t + 2000 for t in regular_times_ms(2.0)]
    path = write_video(tmp_path / "late.mp4", late, sound_s=4.0)
    localizer = Localizer(model)
    for video in (path, localizer.embed_video(path)):
        found = localizer(video, TEXTS)
        assert [note.kind for note in found.notes] == ["picture starts later than the sound"]
        assert found.duration_s == pytest.approx(4.0, abs=0.1)
    assert localizer(FRAMES, TEXTS, fps=5).notes == ()


def test_a_file_is_embedded_once(model, tiny_videos, tmp_path):
    first, second = (shutil.copy(tiny_videos / "videos" / f"test_{i:05d}.mp4", tmp_path) for i in range(2))
    localizer = Localizer(model)
    names = counted(localizer)
    before = localizer(first, TEXTS)
    close(localizer(str(first), TEXTS), before)
    close(localizer(localizer.embed_video(first), TEXTS), before)
    assert names == [str(first)]
    fresh = Localizer(model)(first, TEXTS)  # exactly, not nearly
    assert [text.segments for text in fresh] == [text.segments for text in before]
    os.utime(first, (1, 1))
    shutil.copy(second, first)
    assert not np.allclose(localizer(first, TEXTS)[0].relevance, before[0].relevance, atol=1e-4)
    assert len(names) == 2

    size = localizer.embed_video(first).nbytes
    small = Localizer(model, cache_bytes=int(1.5 * size))
    names = counted(small)
    for file in (first, second, second, first, first):
        small.embed_video(file)
    assert len(names) == 3
    with pytest.raises(UserError, match=r"nothing\.mp4"):
        localizer(tmp_path / "nothing.mp4", TEXTS)


def test_what_embed_video_refuses(model, moment_retrieval):
    video = Localizer(model).embed_video(FRAMES, fps=5)
    assert isinstance(video, EmbeddedVideo) and "(8, 16) frame tokens" in repr(video)
    other = Localizer(dataclasses.replace(model, step_dir=Path("another/checkpoints/1")))
    with pytest.raises(UserError, match=r"frames was embedded by .*run/checkpoints/1.*another/checkpoints/1"):
        other(video, TEXTS)
    with pytest.raises(UserError, match="fps is for an array"):
        other("video.mp4", TEXTS, fps=5)
    with pytest.raises(UserError, match="text 2 of 2 has no words"):
        other("nothing.mp4", ["a", "?"])


def test_texts_in_few_lines(model):
    localizer = Localizer(model)
    found = localizer(FRAMES, "a man runs", fps=5)  # one text, not ten letters
    assert len(found) == 1 and found[0] is found["a man runs"] and [*found] == found.texts
    with pytest.raises(KeyError, match="cat"):
        found["cat"]
    assert repr(found) == "VideoPrediction('frames', 10.0 s, 1 texts)"
    best = found[0].segments[0]
    assert f"{best.start_s:.2f} – {best.end_s:.2f} s" in repr(found[0])
    assert str(found).splitlines()[2].startswith("a man runs")


@pytest.mark.parametrize("count", [1, 3, 7])
def test_no_segment_ends_after_a_video_that_is_shorter_than_a_window(count):
    localizer = Localizer(untrained("moment_retrieval", data={"sampling": "window"}))
    found = localizer(FRAMES[:count], TEXTS, fps=5)
    segments = [segment for text in found for segment in text.segments]
    assert found.duration_s == count / 5 and len(segments) >= len(TEXTS)
    assert all(0 <= segment.start_s <= segment.end_s <= (count - 1) / 5 + 1e-6 for segment in segments)
    assert all(len(text.relevance) == count and (text.relevance > 0).all() for text in found)


def test_a_watcher_is_told_the_seconds_and_can_stop(tmp_path):
    video = write_video(tmp_path / "video.mp4", regular_times_ms(4.0))
    localizer = Localizer(untrained("moment_retrieval"))
    told = []

    def stop(time_s):
        raise UserError("enough")

    with pytest.raises(UserError, match="enough"):
        localizer.embed_video(video, watch=stop)
    localizer.embed_video(video, watch=told.append)
    np.testing.assert_allclose(told, np.arange(1, 21) / 5.0)
    localizer.embed_video(video, watch=stop)  # from the cache
    seconds = []
    localizer.embed_video(FRAMES, fps=5.0, watch=seconds.append)
    assert seconds[-1] == pytest.approx(10.0)
