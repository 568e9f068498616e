"""Charts of a run that change while it trains: losses, validation, and what the model finds in some videos."""

import dataclasses
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unloc_jax.config import Config
from unloc_jax.errors import UserError
from unloc_jax.inline import in_notebook
from unloc_jax.records import VideoRecord
from unloc_jax.tasks import SplitPredictions
from unloc_jax.training.metrics_log import read_log
from unloc_jax.training.watcher import Watcher
from unloc_jax.whole_writes import cannot_write, replacing

_REDRAWN_S = 2.0  # between two drawings; one takes a quarter of a second
_LONGEST_TEXT = 48  # characters
_DPI = 110
# Of a validation, the first that is there; all in percent.
_SCORES = ("R1@0.5", "mAP@0.5", "mAP", "HL-mAP", "frame_accuracy", "top1", "mIoU")


@dataclasses.dataclass(frozen=True)
class _Example:
    """A text of a validation video: its segments, and as many of the best that the model found.

    truth_s, found_s: float [n, 2], seconds; scores: float [n].
    """

    text: str
    duration_s: float
    truth_s: np.ndarray
    found_s: np.ndarray
    scores: np.ndarray


class LiveCharts(Watcher):
    """Draws a run while it trains; pass it to `unloc_jax.train(…, watcher=LiveCharts())`.

    In a notebook the charts are below the cell. Elsewhere, and afterwards, `save` writes them to a file.

    Args:
      examples: most texts of validation videos to show.

    Raises:
      UserError: Matplotlib is not installed.
    """

    def __init__(self, examples: int = 5):
        try:
            import matplotlib.figure  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError("charts need Matplotlib: pip install 'unloc_jax[notebooks]'.") from error
        self._most_examples = examples
        self._lines: list[dict[str, float]] = []
        self._examples: list[_Example] = []
        self._validated_at = 0
        self._drawn_s = 0.0
        self._shown: Any = None  # IPython's handle of what is displayed
        self._total_steps = 0

    def started(self, config: Config, workdir: Path) -> None:
        self._total_steps = config.total_steps
        self._lines = read_log(workdir).numbers
        self._shown = None
        self._draw(now=True)

    def logged(self, step: int, scalars: Mapping[str, float]) -> None:
        self._lines.append({"step": step, **scalars})
        self._draw(now=step == self._total_steps or any(name.startswith("validation/") for name in scalars))

    def validated(
        self, step: int, task: str, records: Sequence[VideoRecord], predictions: SplitPredictions
    ) -> None:
        self._validated_at = step
        self._examples = _examples(records, predictions, self._most_examples)

    def figure(self) -> Any:
        """Returns the charts as a Matplotlib figure."""
        from matplotlib.figure import Figure

        rows = len(self._examples)
        figure = Figure(figsize=(11, 3.2 + (0.8 + 0.42 * rows if rows else 0)), layout="constrained")
        grid = figure.add_gridspec(
            2 if rows else 1, 2, height_ratios=[3.2, 0.8 + 0.42 * rows] if rows else None
        )
        self._draw_losses(figure.add_subplot(grid[0, 0]))
        self._draw_scores(figure.add_subplot(grid[0, 1]))
        if rows:
            self._draw_examples(figure.add_subplot(grid[1, :]))
        return figure

    def save(self, path: str | Path) -> None:
        """Writes the charts to a file; its ending (.png, .svg, .pdf) is the format.

        Raises:
          UserError: an ending that Matplotlib does not know, or the file cannot be written.
        """
        figure, form = self.figure(), Path(path).suffix.removeprefix(".") or "png"
        known = figure.canvas.get_supported_filetypes()
        if form.lower() not in known:
            raise UserError(f"{path}: the charts are saved as {', '.join(sorted(known))}.")
        try:
            with replacing(path) as file:
                figure.savefig(file, format=form, dpi=_DPI)
        except OSError as error:
            raise UserError(cannot_write(path, error)) from error

    def _draw(self, now: bool) -> None:
        """Shows the charts, if a notebook is there and the last drawing is not too recent."""
        if not in_notebook() or not (self._lines or self._examples):
            return
        if not now and time.monotonic() - self._drawn_s < _REDRAWN_S:
            return
        from IPython.display import Image, display

        png = io.BytesIO()
        self.figure().savefig(png, format="png", dpi=_DPI)
        image = Image(data=png.getvalue(), format="png")
        if self._shown is None:
            self._shown = display(image, display_id=True)
        else:
            self._shown.update(image)
        self._drawn_s = time.monotonic()

    def _draw_losses(self, axes: Any) -> None:
        for name in dict.fromkeys(name for line in self._lines for name in line if name.endswith("/loss")):
            points = self._series(name)
            axes.plot(*points.T, label=name.removesuffix("/loss"), marker="." if len(points) < 30 else None)
        axes.set(title="loss", xlabel="step", xlim=(0, self._total_steps or None))
        _finish(axes)

    def _draw_scores(self, axes: Any) -> None:
        names = dict.fromkeys(name for line in self._lines for name in line if name.startswith("validation/"))
        for name in _chosen([name.removeprefix("validation/") for name in names]):
            points = self._series(f"validation/{name}")
            axes.plot(*points.T, label=name, marker="o")
        axes.set(title="validation, %", xlabel="step", xlim=(0, self._total_steps or None), ylim=(0, 100))
        if not names:
            axes.text(0.5, 0.5, "not yet", transform=axes.transAxes, ha="center", color="gray")
        _finish(axes)

    def _draw_examples(self, axes: Any) -> None:
        longest_s = max(example.duration_s for example in self._examples)
        for row, example in enumerate(self._examples):
            axes.broken_barh([(0, example.duration_s)], (row - 0.4, 0.8), color="0.95")
            spans = lambda segments: [(start, end - start) for start, end in segments]
            axes.broken_barh(spans(example.truth_s), (row - 0.34, 0.3), color="#7d8597")
            axes.broken_barh(spans(example.found_s), (row + 0.04, 0.3), color="#1f5fd6")
            for (_, end), score in zip(example.found_s, example.scores):
                axes.text(end, row + 0.19, f" {score:.2f}", va="center", fontsize=8, color="#1f5fd6")
        axes.set_yticks(range(len(self._examples)), [_shortened(example.text) for example in self._examples])
        axes.set(xlim=(0, longest_s), ylim=(len(self._examples) - 0.5, -0.5), xlabel="seconds")
        axes.set_title(
            f"validation videos at step {self._validated_at}: where it happens (grey), where the model looks first "
            "(blue, with its score)",
            fontsize=10,
        )
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)

    def _series(self, name: str) -> np.ndarray:
        """Returns float [n, 2], steps and values."""
        points = [(line["step"], line[name]) for line in self._lines if name in line]
        return np.array(points, float).reshape(-1, 2)


def _examples(records: Sequence[VideoRecord], predictions: SplitPredictions, most: int) -> list[_Example]:
    """Returns texts that happen in their video, of different videos first."""
    if not predictions.segments_s:
        return []
    of_videos = [_examples_of(record, predictions, v) for v, record in enumerate(records)]
    by_turn = [
        of_video[turn]
        for turn in range(max(map(len, of_videos), default=0))
        for of_video in of_videos
        if turn < len(of_video)
    ]
    return by_turn[:most]


def _examples_of(record: VideoRecord, predictions: SplitPredictions, v: int) -> list[_Example]:
    made = []
    for text in dict.fromkeys(record.texts[: len(record.segments_s)]):
        if text not in predictions.texts[v]:
            continue
        truth_s = np.array([s for s, of in zip(record.segments_s, record.texts) if of == text])
        n = predictions.texts[v].index(text)
        scores = predictions.scores[v][n]
        kept = np.flatnonzero(scores > 0)[: len(truth_s)]
        made.append(
            _Example(text, record.duration_s, truth_s, predictions.segments_s[v][n][kept], scores[kept])
        )
    return made


def _chosen(names: Sequence[str]) -> list[str]:
    """Returns the names of scores to draw: of each task the first of `_SCORES`, otherwise its first."""
    of_tasks: dict[str, list[str]] = {}
    for name in names:
        task, _, score = name.rpartition("/")
        of_tasks.setdefault(task, []).append(score)
    return [
        f"{task}/{score}".lstrip("/")
        for task, scores in of_tasks.items()
        for score in [next((known for known in _SCORES if known in scores), scores[0])]
    ]


def _finish(axes: Any) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"
