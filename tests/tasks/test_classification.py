"""Pretraining on trimmed videos: losses by hand from the scores, and evaluation."""

import jax
import numpy as np
import pytest

from tests.tiny import CLASSES, random_batch, random_params, tiny_task
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import Output, SplitPredictions
from unloc_jax.text import tokenize

C = len(CLASSES)
RNG = jax.random.key(0)


def log_softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.fixture(scope="module")
def classification():
    """(task, parameters, jitted batch → (loss, parts), jitted batch → scores of the classes [B, C])."""
    task = tiny_task("classification", loss={"label_smoothing": 0.3})
    params = random_params(task)
    loss = jax.jit(lambda batch: task.loss(params, batch, RNG))
    scores = jax.jit(lambda batch: task.detect(params, batch, task.encoding(CLASSES)[None]).video_scores)
    return task, loss, scores


@pytest.fixture
def videos(classification):
    """Three videos; the second has no label, the last only fills up the batch, the first has two segments."""
    batch = random_batch(classification[0].config, videos=4)
    labels = np.array([[2, 0, -1], [-1, -1, -1], [0, -1, -1], [1, -1, -1]], np.int32)
    return batch.replace(segment_text=labels, example_mask=np.array([True, True, True, False]))


def test_the_loss_is_a_softmax_over_classes(classification, videos):
    """The label is that of the first segment; 0.3 of it is spread over all three classes."""
    _, loss, scores = classification
    log_p, found = log_softmax(np.asarray(scores(videos))), loss(videos)
    target = 0.7 * np.eye(C)[[2, 0]] + 0.1
    expected = -(target * log_p[[0, 2]]).sum(-1).mean()
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)
    right = (log_p[[0, 2]].argmax(-1) == [2, 0]).mean()
    np.testing.assert_allclose(found[1]["accuracy"], right, atol=1e-6)


def test_what_is_not_labelled_does_not_count(classification, videos):
    _, loss, _ = classification
    frames, segments = videos.frames.copy(), videos.segments.copy()
    frames[[1, 3]], segments[:] = 0, 5  # where in the video does not matter either
    assert loss(videos.replace(frames=frames, segments=segments))[0] == loss(videos)[0]
    nothing = loss(videos.replace(segment_text=np.full((4, 3), -1, np.int32)))
    assert nothing[0] == 0 and nothing[1]["accuracy"] == 0


def test_a_video_is_all_of_one_class(classification):
    task = classification[0]
    output = Output(video_scores=np.array([[0.0, 0.0, 0.0], [1.0, 3.0, 2.0]]))
    found = task.segments(output, 1, np.array([0.0, 9.0]))
    shares = np.exp([1, 3, 2]) / np.exp([1, 3, 2]).sum()
    for (segments, scores), share in zip(found, shares, strict=True):
        np.testing.assert_array_equal(segments, [[0, 9]])
        np.testing.assert_allclose(scores, [share], rtol=1e-5)


def record(*texts: str) -> VideoRecord:
    return VideoRecord("v", 9.0, "test", np.zeros((len(texts), 2)), list(texts), [{}] * len(texts))


def test_score_of_classification(classification):
    task = classification[0]
    records = [record(CLASSES[0]), record(CLASSES[2]), record(CLASSES[1]), record(CLASSES[1])]
    texts = task.evaluation_texts(records)
    assert texts == [list(CLASSES)] * 4
    scores = [np.array(x) for x in ([3, 1, 2], [2, 1, 3], [3, 1, 2], [0, 1, 2])]
    result = task.compute_metrics(records, SplitPredictions(texts, video_scores=scores))
    assert result == {"top1": pytest.approx(50)}  # of three classes there are no best five


CONTRASTIVE = tiny_task("video_text_contrastive")


@pytest.fixture(scope="module")
def contrastive():
    """Jitted: batch → (loss, parts); (batch, texts) → scores [B, N]."""
    params = random_params(CONTRASTIVE)
    loss = jax.jit(lambda batch: CONTRASTIVE.loss(params, batch, RNG))
    return loss, jax.jit(lambda batch, tokens: CONTRASTIVE.detect(params, batch, tokens).video_scores)


def test_every_video_against_every_text(contrastive):
    """Videos 0 and 3 have the same text, video 1 is told by its second text, video 2 by none; video 4 fills up."""
    loss, scores = contrastive
    own = ["cat", "dog", "house", "cat", "tree"]
    others = ["sun", "rain", "snow", "wind", "fog"]
    tokens = np.stack([tokenize([a, b, ""], 8) for a, b in zip(own, others)])
    tokens[1, :2] = tokens[1, [1, 0]]
    batch = random_batch(CONTRASTIVE.config, videos=5).replace(
        text_tokens=tokens,
        segment_text=np.array([[0, 1, -1], [1, 0, -1], [-1, -1, -1], [0, -1, -1], [0, -1, -1]], np.int32),
        example_mask=np.array([True, True, True, True, False]),
    )
    logits = np.asarray(scores(batch, tokenize(own, 8)[None, :, None]), np.float64)
    allowed = np.array([[1, 1, 0, 0, 0], [1, 1, 0, 1, 0], [0] * 5, [0, 1, 0, 1, 0], [0] * 5], bool)
    terms, right = [], []
    for i in (0, 1, 3):
        row, column = logits[i][allowed[i]], logits[:, i][allowed[:, i]]
        terms.append(0.5 * (np.log(np.exp(row).sum()) + np.log(np.exp(column).sum())) - logits[i, i])
        right.append(row.max() == logits[i, i])
    value, parts = loss(batch)
    np.testing.assert_allclose(value, np.mean(terms), rtol=1e-3)
    np.testing.assert_allclose(parts["accuracy"], np.mean(right), atol=1e-6)
    # What is nobody's text is not read.
    changed = tokens.copy()
    changed[:, 2], changed[1, 0], changed[2], changed[4] = (
        tokens[0, 0],
        tokens[0, 0],
        tokens[0, 0],
        tokens[0, 1],
    )
    np.testing.assert_allclose(loss(batch.replace(text_tokens=changed))[0], value, rtol=1e-5)


def test_score_of_contrastive_pretraining():
    """Each video's own text among all texts of the split."""
    records = [record("a"), record("b", "c"), record("a"), *(record(name) for name in "def")]
    texts = CONTRASTIVE.evaluation_texts(records)
    assert texts == [list("abcdef")] * 6
    best = np.array([0, 2, 0, 3, 4, 0])
    scores = [np.where(np.arange(6) == of_video, 1.0, 0.0) for of_video in best]
    result = CONTRASTIVE.compute_metrics(records, SplitPredictions(texts, video_scores=scores))
    # The second video's text b is behind c and a; f is behind a, b, c, d, e, of which the first has the same score.
    assert result == {"top1": pytest.approx(100 * 4 / 6), "top5": pytest.approx(100 * 5 / 6)}
