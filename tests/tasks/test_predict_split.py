"""From batches to scores: detection, the one evaluation path, and what each task scores."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from tests.tiny import CLASSES, QUERIES, random_batch, random_params, tiny_task
from unloc_jax.localization.decode import Detections
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import Output, SplitPredictions
from unloc_jax.tasks.moment_retrieval import ranked_segments
from unloc_jax.tasks.predict_split import predict_split
from unloc_jax.text import tokenize

TASK = tiny_task("moment_retrieval")


@pytest.fixture(scope="module")
def sharding():
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:1])
    return NamedSharding(mesh, PartitionSpec("data"))


def test_detect(moment_retrieval):
    """The curve is the highest probability of a point that covers a real frame; detections are decoded points."""
    task, params = moment_retrieval
    batch = random_batch(task.config)
    batch.frame_mask[1, 6:] = False

    def run(tokens):
        localization = task.model.apply({"params": params}, batch.inputs, batch.frame_mask, tokens)
        return task.detect(params, batch, tokens[:, :, None]), localization.relevance

    output, relevance = jax.device_get(jax.jit(run)(batch.text_tokens))
    found, curve = output.detections, output.curve
    assert output.frame_classes is None and output.video_scores is None
    probability = 1 / (1 + np.exp(-relevance))
    points = list(zip(task.geometry.positions, task.geometry.strides, strict=True))
    for frame in range(8):
        covering = [i for i, (position, stride) in enumerate(points) if position <= frame < position + stride]
        assert len(covering) == 3
        expected = np.where(batch.frame_mask[:, frame, None], probability[..., covering].max(-1), 0)
        np.testing.assert_allclose(curve[..., frame], expected, rtol=1e-5)

    assert found.segments_s.shape == (2, 3, 5, 2) and found.scores.shape == (2, 3, 5)
    real = np.where(batch.frame_mask[:, None, task.geometry.positions.astype(int)], probability, 0)
    np.testing.assert_array_equal(found.point[..., 0], real.argmax(-1))
    np.testing.assert_allclose(found.scores[..., 0], real.max(-1), rtol=1e-5)


def evaluation_batches(num_videos: int, batch_size: int):
    """Video v is told by its span, which starts at v seconds; the last batch is filled up with its last video."""
    for first in range(0, num_videos, batch_size):
        videos = np.minimum(np.arange(first, first + batch_size), num_videos - 1)
        span_s = np.stack([videos, videos + 7], axis=-1).astype(np.float32)
        real = np.arange(first, first + batch_size) < num_videos
        yield random_batch(TASK.config, videos=batch_size).replace(span_s=span_s, example_mask=real)


class FakeDetect:
    """Finds, for every text, two segments at the video's first second, with the text's first word as the score.

    What else an output may hold is the first word or the first second as well.
    """

    def __init__(self):
        self.shapes = []

    def __call__(self, params, batch, texts):
        self.shapes.append(texts.shape)
        videos, num_texts = len(batch.frames), texts.shape[1]
        word = np.broadcast_to(texts[:, :, 0, 1], (videos, num_texts))
        scores = np.stack([word, word], axis=-1).astype(np.float32)
        segments = np.broadcast_to(np.asarray(batch.span_s)[:, :1, None, None], (*scores.shape, 2))
        return Output(
            Detections(segments, scores, np.zeros(scores.shape, np.int32)),
            curve=np.stack([word] * 8, axis=-1),
            frame_classes=np.broadcast_to(np.asarray(batch.span_s)[:, :1], (videos, 8)),
            video_scores=word,
        )


def first_words(texts) -> np.ndarray:
    return tokenize(texts, 8)[:, 1]


@pytest.mark.parametrize("num_videos", [1, 4, 5])
def test_every_video_once_with_its_own_texts(sharding, num_videos):
    words = ["cat", "dog", "house", "tree", "water", "fire", "stone", "bird"]
    texts = [words[v : v + 1 + v % 3] for v in range(num_videos)]  # one to three each
    detect, seen = FakeDetect(), []
    progress = lambda batches: (seen.append(1) or batch for batch in batches)
    found = predict_split(TASK, detect, None, evaluation_batches(num_videos, 2), texts, sharding, progress)
    assert found.texts == texts
    assert len(found.segments_s) == len(found.scores) == num_videos
    assert len(seen) == len(detect.shapes) == -(-num_videos // 2)
    assert found.curves == []  # moment retrieval has no use for them
    for video, of_video in enumerate(texts):
        np.testing.assert_array_equal(found.spans_s[video], [video, video + 7])
        np.testing.assert_array_equal(found.frame_classes[video], [video] * 8)
        np.testing.assert_array_equal(found.video_scores[video], first_words(of_video))
        assert found.segments_s[video].shape == (len(of_video), 2, 2)
        np.testing.assert_array_equal(found.segments_s[video], video)
        np.testing.assert_array_equal(found.scores[video], first_words(of_video)[:, None].repeat(2, axis=1))


def test_texts_of_a_video_are_encoded_once_for_all_its_windows(sharding):
    encoded = []
    texts, num_windows = [["cat"], ["dog", "fire", "tree"], [], ["bird", "stone"]], [3, 4, 1, 2]

    def encode(of_video):
        encoded.append(list(of_video))
        return TASK.encoding(of_video)[None]

    def found(of_videos, windows, **options):
        batches = evaluation_batches(sum(windows), 4)
        return predict_split(
            TASK, FakeDetect(), None, batches, of_videos, sharding, num_windows=windows, **options
        )

    for of_videos, windows in ((texts, num_windows), (texts[1:2], [5])):
        encoded.clear()
        once, every_time = found(of_videos, windows, encode=encode), found(of_videos, windows)
        assert encoded == [of_video or [""] for of_video in of_videos]
        chex.assert_trees_all_equal(vars(once), vars(every_time))
    found(
        texts, [1] * 4, encode=pytest.fail
    )  # of whole videos the texts are encoded on the devices, a batch at a time


def test_a_vocabulary_is_given_once_per_batch(sharding, action_localization):
    task = action_localization[0]
    records = [VideoRecord(str(v), 9.0, "test", np.zeros((0, 2)), [], []) for v in range(3)]
    texts = task.evaluation_texts(records)
    assert texts == [list(CLASSES)] * 3
    detect = FakeDetect()
    found = predict_split(task, detect, None, evaluation_batches(3, 2), texts, sharding)
    assert detect.shapes == [(1, 3, 1, 8)] * 2
    for video in range(3):
        np.testing.assert_array_equal(found.segments_s[video], video)
        np.testing.assert_array_equal(found.scores[video][:, 0], first_words(CLASSES))


def test_curves_are_kept_where_scoring_needs_them(sharding):
    task = tiny_task("highlight_detection")
    found = predict_split(
        task, FakeDetect(), None, evaluation_batches(3, 2), [["cat"], ["dog", "fire"], ["tree"]], sharding
    )
    assert [curve.shape for curve in found.curves] == [(1, 8), (2, 8), (1, 8)]
    np.testing.assert_array_equal(found.curves[1][:, 0], first_words(["dog", "fire"]))


def test_texts_come_in_every_prompt(sharding):
    task = tiny_task(data={"prompts": ("{}", "a video of {}")})
    asked = []
    detect = FakeDetect()
    keep = lambda params, batch, texts: asked.append(np.asarray(texts)) or detect(params, batch, texts)
    predict_split(task, keep, None, evaluation_batches(2, 2), [["cat"], ["dog", "fire"]], sharding)
    (texts,) = asked
    assert texts.shape == (2, 2, 2, 8)
    np.testing.assert_array_equal(texts[1, 1], tokenize(["fire", "a video of fire"], 8))
    np.testing.assert_array_equal(texts[0, 1], 0)


def record(segments_s, texts) -> VideoRecord:
    return VideoRecord(
        "v", 20.0, "test", np.array(segments_s, np.float32).reshape(-1, 2), texts, [{}] * len(texts)
    )


RECORDS = [
    record([[0, 4], [10, 14]], [CLASSES[0], CLASSES[2]]),
    record([[5, 9]], [CLASSES[1]]),
]


def test_moment_retrieval_scores():
    texts = TASK.evaluation_texts(RECORDS)
    assert texts == [[CLASSES[0], CLASSES[2]], [CLASSES[1]]]
    # IoU 1; 0.6 with the second; nothing but what fills up.
    segments = [np.array([[[0, 4], [9, 9]], [[0, 2], [11, 15]]]), np.array([[[5, 9], [5, 9]]])]
    scores = [np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([[0.0, 0.0]])]
    found = SplitPredictions(texts, segments_s=segments, scores=scores)
    assert [len(x) for x in ranked_segments(found)] == [2, 2, 0]
    result = TASK.compute_metrics(RECORDS, found)
    assert result["R1@0.5"] == pytest.approx(100 / 3) and result["R5@0.5"] == pytest.approx(200 / 3)
    assert result["R5@0.7"] == pytest.approx(100 / 3)


def class_detections(rows, num_videos=2):
    """Rows (video, class, start, end, score) → SplitPredictions with room for two segments per class."""
    segments = [np.zeros((3, 2, 2), np.float32) for _ in range(num_videos)]
    scores = [np.zeros((3, 2), np.float32) for _ in range(num_videos)]
    for video, label, start, end, score in rows:
        place = (scores[video][label] > 0).sum()
        segments[video][label, place], scores[video][label, place] = (start, end), score
    return SplitPredictions([list(CLASSES)] * num_videos, segments_s=segments, scores=scores)


def test_action_localization_scores(action_localization):
    task = action_localization[0]
    right = [(0, 0, 0, 4, 0.9), (0, 2, 10, 14, 0.8), (1, 1, 5, 9, 0.7)]
    result = task.compute_metrics(RECORDS, class_detections(right))
    assert result["mAP@0.30:0.70"] == pytest.approx(100) and result["mAP@0.50"] == pytest.approx(100)
    # The right times of a wrong class, or in a wrong video, are worth nothing; nor is finding nothing.
    wrong = [(0, 1, 0, 4, 0.9), (0, 0, 10, 14, 0.8), (0, 1, 5, 9, 0.7)]
    assert task.compute_metrics(RECORDS, class_detections(wrong))["mAP@0.50"] == 0
    assert task.compute_metrics(RECORDS, class_detections([]))["mAP@0.50"] == 0
    # One of three classes is found, after a false positive of a higher score.
    half = [(1, 0, 0, 4, 0.95), (0, 0, 0, 4, 0.9)]
    assert task.compute_metrics(RECORDS, class_detections(half))["mAP@0.50"] == pytest.approx(100 / 6)


def test_batches_and_their_order_change_nothing(sharding, moment_retrieval):
    """Each video with its own texts, of which some have more: in batches of one, of three, and in another order."""
    task, params = moment_retrieval
    videos, detect = random_batch(task.config, videos=4), jax.jit(task.detect)
    texts = [[*QUERIES[v : v + 1 + v % 3]] for v in range(4)]

    def search(order, batch_size):
        rows = np.resize(order, -(-len(order) // batch_size) * batch_size).reshape(-1, batch_size)
        batches = (jax.tree.map(lambda x, row=row: x[row], videos) for row in rows)
        found = predict_split(task, detect, params, batches, [texts[v] for v in order], sharding)
        back = np.argsort(order)
        return [(found.segments_s[i], found.scores[i]) for i in back]

    one_by_one = search(np.arange(4), 1)
    for order, batch_size in (([0, 1, 2, 3], 3), ([3, 1, 0, 2], 1), ([2, 3, 1, 0], 3)):
        for found, expected in zip(search(np.array(order), batch_size), one_by_one, strict=True):
            chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["moment_retrieval", "action_segmentation", "classification"])
def test_crops_are_averaged(name):
    """Three different crops: the mean of the model's outputs, before any decoding."""
    one = tiny_task(name)
    three = tiny_task(name, evaluation={"batch_size": 2, "max_detections": 5, "crops": 3})
    params = random_params(one)
    batch = random_batch(one.config, videos=6)
    texts = jnp.asarray(one.encoding(["a man runs", "rain falls"]))[None]
    each = jax.jit(one.detect)(params, batch, texts)
    whole = jax.jit(three.detect)(params, batch, texts)
    if name == "classification":
        np.testing.assert_allclose(
            whole.video_scores, each.video_scores.reshape(2, 3, 2).mean(1), rtol=1e-5, atol=1e-6
        )
        return
    logit = lambda p: np.log(p) - np.log1p(-p)
    if name == "action_segmentation":
        expected = logit(np.asarray(each.curve)).reshape(2, 3, *each.curve.shape[1:]).mean(1)
        np.testing.assert_allclose(logit(np.asarray(whole.curve)), expected, rtol=1e-4, atol=1e-4)
        return
    assert whole.detections.scores.shape[0] == whole.curve.shape[0] == 2
    same = dataclasses.replace(batch, frames=np.repeat(batch.frames[::3], 3, axis=0))
    again = jax.jit(three.detect)(params, same, texts)
    np.testing.assert_allclose(again.detections.scores, each.detections.scores[::3], rtol=1e-4)
    assert np.abs(np.asarray(whole.curve) - np.asarray(again.curve)).max() > 1e-3
