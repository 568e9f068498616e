"""Late fusion without training: similarities of frames and a text → relevance → segments, in NumPy.

`unloc zeroshot` and `unloc evaluate --zeroshot-clip` both use `localize`, so that one shows what the other scores.
"""

import dataclasses

import numpy as np

from unloc_jax.config import EvaluationConfig
from unloc_jax.metrics.tiou import segment_iou

# Fractions of the highest relevance: a candidate is a stretch that stays above one of them.
_THRESHOLDS = np.linspace(0.1, 0.9, 9)
# The surroundings of a candidate: this fraction of its length on either side (AutoLoc, Shou et al. 2018, section 3.3).
_AROUND = 0.25
_MOST_OVERLAP = 0.5  # tIoU of two candidates that are both kept
_FLAT = 1e-4  # a cosine that varies by less over a video is uninformative


@dataclasses.dataclass(frozen=True, eq=False)
class Similarities:
    """Holds CLIP's similarities of N texts and the F frames of a video.

    Attributes:
      cosines: float [N, F], of every text and every frame.
      fps: frames per second.
      smoothing_s: standard deviation of the Gaussian in seconds; 0 = none.
      duration_s: of the video in seconds; no segment ends after it.
      logit_scale: by which CLIP multiplies cosines.
    """

    cosines: np.ndarray
    fps: float
    smoothing_s: float
    duration_s: float
    logit_scale: float = 1.0

    @property
    def logits(self) -> np.ndarray:
        """float [N, F]."""
        return self.cosines * self.logit_scale


def localize(
    video: Similarities, settings: EvaluationConfig, shares: np.ndarray | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Finds N texts in the F frames of a video.

    Args:
      video: its similarities with the texts.
      settings: `score_threshold`, which scores must exceed, and `max_detections` per text.
      shares: float [N, F], the probability of each text in each frame, for texts that are classes and exclude each
        other; a segment's score is multiplied by its mean. None = independent texts.

    Returns:
      curves: float [N, F] in [0, 1], see `relevance`.
      segments: per text float64 [n, 3], start and end in seconds and score, best first.
    """
    curves = np.zeros(video.cosines.shape)
    segments = []
    for i, of_text in enumerate(video.cosines):
        curves[i] = relevance(smooth(of_text, video.smoothing_s * video.fps))
        lowest = settings.score_threshold
        # No segment of a class can score more than its highest share.
        made = [] if shares is not None and shares[i].max() <= lowest else candidates(curves[i])
        if shares is not None:
            made = [(start, end, score * float(shares[i, start:end].mean())) for start, end, score in made]
        made = sorted((one for one in made if one[2] > lowest), key=lambda one: -one[2])
        segments.append(seconds(made[: settings.max_detections], video.fps, video.duration_s))
    return curves, segments


def smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Smooths values, float [F] → float [F], with Gaussian weights (`sigma` in frames) over the frames that exist."""
    if sigma <= 0:
        return values
    places = np.arange(-int(3 * sigma + 1), int(3 * sigma + 1) + 1)
    kernel = np.exp(-0.5 * (places / sigma) ** 2)
    middle = slice(len(places) // 2, len(places) // 2 + len(values))
    weights = np.convolve(np.ones(len(values)), kernel)[middle]
    return np.convolve(values, kernel)[middle] / weights


def relevance(cosines: np.ndarray) -> np.ndarray:
    """Scales float [F] → [F], from 0 at the least similar frame to 1 at the most similar; all 0 if none stands out."""
    low, high = cosines.min(), cosines.max()
    if high - low < _FLAT:
        return np.zeros(len(cosines))
    return np.clip((cosines - low) / (high - low), 0.0, 1.0)


def candidates(curve: np.ndarray) -> list[tuple[int, int, float]]:
    """Returns stretches of a relevance curve [F] that stand out: (first frame, end (exclusive), score in (0, 1]).

    They are sorted by score, the best first. Of two that overlap by more than a tIoU of 0.5, the better one is kept.
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


def seconds(segments: list[tuple[int, int, float]], fps: float, duration_s: float) -> np.ndarray:
    """Converts (first frame, end (exclusive), score) each → float64 [n, 3]: start and end in seconds, and score.

    Frame k represents the time from (k - 0.5) / fps to (k + 0.5) / fps, as far as it is in the video.
    """
    found = np.array(segments, np.float64).reshape(-1, 3)
    found[:, :2] = np.clip((found[:, :2] - 0.5) / fps, 0.0, duration_s)
    return found
