"""Predictions for one video: the values that the report, the JSON file and the terminal show."""

import dataclasses
import html
import itertools
import json
import math
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.errors import UserError
from unloc_jax.inference.waveform import Waveform
from unloc_jax.inline import framed
from unloc_jax.video import VideoNote
from unloc_jax.whole_writes import write_result

TOP_K = 5  # segments per text on the report

_TEXT_COLUMNS = 44  # widest text column of the terminal table; longer texts wrap
# Of the report inside a notebook: everything but the rows, a row, a segment in it, and the most without scrolling.
_STAGE_PX, _ROW_PX, _LANE_PX, _MOST_PX = 540, 64, 20, 1200
_WAVEFORM_PX = 50
# A notebook keeps its outputs, and Colab saves no notebook of more than 20 MB.
_INLINE_BYTES = 6 << 20


@dataclasses.dataclass(frozen=True)
class Segment:
    """One moment that matches a text.

    Attributes:
      start_s: seconds on the clock of a player.
      end_s: seconds on the same clock, >= start_s.
      score: the model's confidence, in [0, 1].

    Raises:
      ValueError: a value is not finite or out of its range.
    """

    start_s: float
    end_s: float
    score: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_s) and math.isfinite(self.end_s) and self.start_s <= self.end_s):
            raise ValueError(f"a segment needs finite times, start_s <= end_s: {self!r}")
        if not 0 <= self.score <= 1:
            raise ValueError(f"a segment's score must be in [0, 1]: {self!r}")

    def __str__(self) -> str:
        return f"{self.start_s:.2f} – {self.end_s:.2f} s ({self.score:.3f})"


@dataclasses.dataclass(frozen=True, repr=False)
class TextPrediction:
    """The segments and the relevance curve of one text.

    Attributes:
      text: the sentence, query or class name.
      segments: best first.
      relevance_times_s: float [R], ascending, seconds on the clock of a player.
      relevance: float [R] in [0, 1]: how well the text matches the moment; NaN = no value for this moment.
      unknown_words: words of `text` that never occurred in training.
      threshold: a text whose best score is not above it is not in the video (`is_absent`); None = unknown, see
        docs/metrics.md.

    Raises:
      ValueError: segments are not best first, or the two arrays are not [R].
    """

    text: str
    segments: list[Segment]
    relevance_times_s: np.ndarray
    relevance: np.ndarray
    unknown_words: list[str]
    threshold: float | None = None

    @property
    def is_absent(self) -> bool:
        """Returns whether the text is taken as not in the video: its segments are then the best of what is not it."""
        return self.threshold is not None and self.best_score <= self.threshold

    @property
    def best_score(self) -> float:
        """Returns the score of the best segment, 0.0 without any."""
        return self.segments[0].score if self.segments else 0.0

    def __post_init__(self) -> None:
        if any(a.score < b.score for a, b in itertools.pairwise(self.segments)):
            raise ValueError(f"segments must be best first (text {self.text!r})")
        times, values = np.shape(self.relevance_times_s), np.shape(self.relevance)
        if times != values or len(times) != 1:
            raise ValueError(f"relevance_times_s {times} and relevance {values} must both be [R]")

    def __repr__(self) -> str:
        best = ", not here" if self.is_absent else f", best {self.segments[0]}" if self.segments else ""
        return f"TextPrediction({self.text!r}, {len(self.segments)} segments{best})"


@dataclasses.dataclass(frozen=True, repr=False)
class VideoPrediction:
    """All predictions for one video: `for text in prediction`, `prediction["a text"]`, `print(prediction)`.

    Attributes:
      video: path of the video file.
      duration_s: its length in seconds, > 0.
      texts: one entry per text, in the order of the request.
      model: details of the model to show, such as checkpoint, step, dataset, num_frames.
      notes: messages about the video.
      stretched: whether every relevance curve spans 0 to 1 whatever the video shows, as those of CLIP alone do; those
        of a trained model may stay low.
      waveform: of the sound that the model heard, to show; None = it heard none.

    Raises:
      ValueError: duration_s is not a finite number above 0.
    """

    video: str
    duration_s: float
    texts: list[TextPrediction]
    model: dict[str, str]
    notes: tuple[VideoNote, ...] = ()
    stretched: bool = False
    waveform: Waveform | None = None

    def __post_init__(self) -> None:
        if not 0 < self.duration_s < math.inf:
            raise ValueError(f"duration_s must be finite and above 0, got {self.duration_s}")

    def __iter__(self) -> Iterator[TextPrediction]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, key: int | str) -> TextPrediction:
        """Returns a text's prediction by number, or by text (KeyError if it was not asked for)."""
        if isinstance(key, int):
            return self.texts[key]
        found = next((text for text in self.texts if text.text == key), None)
        if found is None:
            raise KeyError(key)
        return found

    def __repr__(self) -> str:
        return f"VideoPrediction({self.video!r}, {self.duration_s:.1f} s, {len(self.texts)} texts)"

    def __str__(self) -> str:
        return terminal_table(self)

    def _repr_html_(self) -> str:
        """Returns the report for a notebook; of arrays without a file, the table."""
        from unloc_jax.inference.report import embedded_page

        if not Path(self.video).is_file():
            return f"<pre>{html.escape(str(self))}</pre>"
        page = "".join(embedded_page(self, self.video, max_video_bytes=_INLINE_BYTES))
        lanes = sum(min(len(text.segments), TOP_K) for text in self.texts)
        stage = _STAGE_PX + (_WAVEFORM_PX if self.waveform is not None else 0)
        return framed(page, min(stage + _ROW_PX * len(self.texts) + _LANE_PX * lanes, _MOST_PX))

    def save(self, path: str | Path, top_k: int = TOP_K) -> None:
        """Writes the report (`.html`, see `write_report`) or the numbers (`.json`, see `to_json`).

        Args:
          path: file to write.
          top_k: most segments per text on the page; the numbers are all of them.

        Raises:
          UserError: another ending, a folder that cannot be written, or a report of a video that is not a file.
        """
        from unloc_jax.inference.report import write_report

        path = Path(path)
        if path.suffix == ".html":
            if not Path(self.video).is_file():
                raise UserError(
                    f"{path}: the report shows the video, and {self.video!r} is not a file here; save a .json instead."
                )
            write_report(self, self.video, path, top_k)
        elif path.suffix == ".json":
            write_result(path, json.dumps(to_json(self), indent=1, allow_nan=False) + "\n")
        else:
            raise UserError(f"{path}: write a report.html or a result.json.")


def to_json(prediction: VideoPrediction) -> dict[str, Any]:
    """Converts a prediction to plain values that `json.dumps(…, allow_nan=False)` accepts.

    The layout is stable; a change of meaning increases `version`::

        {"version": 1,
         "video": str, "duration_s": float,
         "model": {str: str},
         "notes": [str],                                                             about the video
         "texts": [{"text": str,
                    "unknown_words": [str],
                    "present": bool,                              where a threshold is known: False = "not here"
                    "segments": [{"start_s": float, "end_s": float, "score": float}],   best first
                    "relevance_times_s": [float],
                    "relevance": [float or null]}]}                                     null = no value

    Numbers are not rounded: every view rounds once, so that all views agree.
    """
    return {
        "version": 1,
        "video": prediction.video,
        "duration_s": float(prediction.duration_s),
        "model": {str(key): str(value) for key, value in prediction.model.items()},
        "notes": [str(note) for note in prediction.notes],
        "texts": [
            {
                "text": text.text,
                "unknown_words": list(text.unknown_words),
                **({} if text.threshold is None else {"present": not text.is_absent}),
                "segments": [
                    {
                        "start_s": float(segment.start_s),
                        "end_s": float(segment.end_s),
                        "score": float(segment.score),
                    }
                    for segment in text.segments
                ],
                "relevance_times_s": [float(time_s) for time_s in text.relevance_times_s],
                "relevance": [float(value) if math.isfinite(value) else None for value in text.relevance],
            }
            for text in prediction.texts
        ],
    }


def terminal_table(prediction: VideoPrediction, top_k: int = 3) -> str:
    """Returns the best `top_k` segments of every text as a plain text table, without a newline at the end."""
    head = ("text", "rank", "seconds", "time", "score")
    width = max([len(head[0]), *(len(text.text) for text in prediction.texts)])
    width = min(width, _TEXT_COLUMNS)
    seconds = max(15, 2 * len(f"{prediction.duration_s:.2f}") + 3)
    times = 2 * len(clock(prediction.duration_s)) + 3

    def line(text: str, rank: str, start_end: str, start_end_clock: str, score: str) -> str:
        cells = f"{text:<{width}}  {rank:>4}  {start_end:>{seconds}}  {start_end_clock:>{times}}  {score:>5}"
        return cells.rstrip()

    lines = [line(*head)]
    lines.append("-" * (width + seconds + times + 17))
    for text in prediction.texts:
        found = [
            (
                str(rank),
                f"{segment.start_s:.2f} – {segment.end_s:.2f}",
                f"{clock(segment.start_s)} – {clock(segment.end_s)}",
                f"{segment.score:.3f}",
            )
            for rank, segment in enumerate(() if text.is_absent else text.segments[:top_k], 1)
        ] or [
            ("-", "not here", "", f"{text.best_score:.3f}") if text.is_absent else ("-", "no segment", "", "")
        ]
        for words, cells in itertools.zip_longest(textwrap.wrap(text.text, width), found):
            lines.append(line(words or "", *(cells or ("", "", "", ""))))

    missing = [text for text in prediction.texts if text.is_absent]
    if missing:
        lines += [
            "",
            f"not here: the best score is not above {missing[0].threshold:.4g}, the model's threshold",
        ]
    unknown = [text for text in prediction.texts if text.unknown_words]
    if unknown:
        lines += ["", "Words the model never saw in training (expect less of these texts):"]
        lines += [f"  {', '.join(text.unknown_words)}  in: {' '.join(text.text.split())}" for text in unknown]
    if prediction.notes:
        lines += ["", *(f"note: {note}" for note in prediction.notes)]
    return "\n".join(lines)


def clock(time_s: float) -> str:
    """Formats seconds as mm:ss.s, from one hour on as h:mm:ss.s. Negative times count as 0."""
    tenths = max(0, round(time_s * 10))
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    ahead = f"{hours}:" if hours else ""
    return f"{ahead}{minutes:02d}:{tenths // 10:02d}.{tenths % 10}"
