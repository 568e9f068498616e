"""Late fusion straight from CLIP, nothing trained: the baseline that every trained model must beat.

Each frame's similarity to the text, smoothed over time; segments are the stretches that stand out from what is
around them.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from unloc_jax.errors import UserError
from unloc_jax.inference.clip import ClipEncoder, unit, video_frames
from unloc_jax.inference.predictions import Segment, TextPrediction, VideoPrediction
from unloc_jax.metrics.tiou import segment_iou
from unloc_jax.text import num_tokens, words

# Of the highest relevance: a candidate is a stretch that stays above one of them.
_THRESHOLDS = np.linspace(0.1, 0.9, 9)
# What is around a candidate: this fraction of its length on either side (AutoLoc, Shou et al. 2018, section 3.3).
_AROUND = 0.25
_MOST_OVERLAP = 0.5  # tIoU of two candidates that are both kept
_FLAT = 1e-4  # a cosine that varies by less over a video says nothing


def zeroshot(
    encoder: ClipEncoder, video: Path, texts: Sequence[str], *, fps: float = 2.0, smoothing_s: float = 1.0
) -> VideoPrediction:
    """Segments and relevance curve of every text.

    Relevance is the cosine of frame and text, smoothed and stretched to [0, 1] over the video: it compares moments of
    one video, not videos. A segment's score is its mean relevance minus that of what is around it.

    Args:
      encoder: see `ClipEncoder`.
      video: any file that PyAV decodes.
      texts: sentences.
      fps: frames that are looked at, per second.
      smoothing_s: standard deviation of the Gaussian, in seconds; 0 = none.

    Raises:
      UserError: no or empty texts, or a video that cannot be used.
    """
    empty = [i for i, text in enumerate(texts, 1) if not words(text)]
    if empty or not texts:
        raise UserError(f"--text number {empty[0] if empty else 1} has no words: what should be looked for?")
    most = encoder.clip.config.text.max_tokens
    for text in texts:
        if num_tokens(text) > most:
            print(
                f"note: CLIP reads {most - 2} word pieces; the end of {text!r} is left out", file=sys.stderr
            )
    of_texts = unit(encoder.encode_texts(texts))
    stream = video_frames(video, fps)
    bar = tqdm(stream, desc=f"embedding {video.name}", unit="frame", delay=3, file=sys.stderr, leave=False)
    of_frames = unit(encoder.encode_stream(bar))
    times_s = np.arange(len(of_frames)) / fps
    found = []
    for text, cosines in zip(texts, of_texts @ of_frames.T):
        curve = relevance(smooth(cosines, smoothing_s * fps))
        segments = [
            Segment(max(0.0, (start - 0.5) / fps), min(stream.duration_s, (end - 0.5) / fps), score)
            for start, end, score in candidates(curve)
        ]
        found.append(TextPrediction(text, segments, times_s, curve, unknown_words=[]))
    facts = {
        "model": f"{encoder.clip.config.name} (CLIP, not trained to localise)",
        "sees": f"{fps:g} frames per second of {encoder.clip.config.image_size}² pixels",
    }
    return VideoPrediction(str(video), stream.duration_s, found, facts)


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """[F] → [F], averaged with Gaussian weights (`sigma` in frames) over the frames that are there."""
    if sigma <= 0:
        return values
    places = np.arange(-int(3 * sigma + 1), int(3 * sigma + 1) + 1)
    kernel = np.exp(-0.5 * (places / sigma) ** 2)
    middle = slice(len(places) // 2, len(places) // 2 + len(values))
    weights = np.convolve(np.ones(len(values)), kernel)[middle]
    return np.convolve(values, kernel)[middle] / weights


def relevance(cosines: np.ndarray) -> np.ndarray:
    """[F] → [F] from 0 at the least similar frame to 1 at the most similar; all 0 where none stands out."""
    low, high = cosines.min(), cosines.max()
    if high - low < _FLAT:
        return np.zeros(len(cosines))
    return np.clip((cosines - low) / (high - low), 0.0, 1.0)


def candidates(curve: np.ndarray) -> list[tuple[int, int, float]]:
    """Stretches of a relevance curve [F] that stand out: (first frame, end (exclusive), score in (0, 1]), best first.

    Of two that overlap by more than a tIoU of 0.5 the better one stays.
    """
    made: dict[tuple[int, int], float] = {}
    for threshold in _THRESHOLDS:
        edges = np.flatnonzero(np.diff(np.concatenate([[False], curve >= threshold, [False]])))
        for start, end in edges.reshape(-1, 2).tolist():
            border = max(1, round(_AROUND * (end - start)))
            around = np.concatenate([curve[max(0, start - border) : start], curve[end : end + border]])
            score = curve[start:end].mean() - around.mean()  # never empty: some frame has relevance 0
            if score > 0:
                made[start, end] = float(min(score, 1.0))
    kept: list[tuple[int, int, float]] = []
    for (start, end), score in sorted(made.items(), key=lambda item: (-item[1], item[0])):
        one = np.array([start, end])
        if all(segment_iou(one, np.array(other[:2])) <= _MOST_OVERLAP for other in kept):
            kept.append((start, end, score))
    return kept
