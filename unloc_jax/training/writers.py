"""Where numbers go: TensorBoard, a JSON Lines file, and the progress line on the terminal."""

import json
import sys
import time
from pathlib import Path

import tensorboardX

from unloc_jax.processes import is_main


class MetricWriter:
    """Writes scalars to `workdir/metrics.jsonl` and `workdir/tensorboard/`; of several processes only the first does.

    Args:
      workdir: the run's directory.
      start_step: what an interrupted run wrote beyond this step is dropped, because those steps come again.
    """

    def __init__(self, workdir: Path, start_step: int):
        self._tensorboard = None
        if not is_main():
            return
        self._path = workdir / "metrics.jsonl"
        kept = []
        if self._path.exists():
            lines = self._path.read_text().splitlines()
            kept = [line + "\n" for line in lines if _step_of(line) <= start_step]
        # Replaced at once: a kill in between must not take the history with it.
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(kept))
        partial.replace(self._path)
        self._tensorboard = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=start_step + 1 if start_step else None
        )

    def write(self, step: int, scalars: dict[str, float]) -> None:
        if self._tensorboard is None:
            return
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **scalars}) + "\n")
        for name, value in scalars.items():
            self._tensorboard.add_scalar(name, value, step)
        self._tensorboard.flush()

    def close(self) -> None:
        if self._tensorboard is not None:
            self._tensorboard.close()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):
        return float("inf")  # half a line, cut off by a kill


class Progress:
    """One line per report: stage, step, loss, videos/s, time left in the stage (stages differ in speed)."""

    def __init__(self, total_steps: int, start_step: int, videos_per_step: float):
        self._total, self._videos_per_step = total_steps, videos_per_step
        self._last = (start_step, time.monotonic())
        self._paused_s = 0.0

    def pause(self, seconds: float) -> None:
        """Time that was no training (compilation, evaluation) does not count as speed."""
        self._paused_s += seconds

    def report(self, stage: str, step: int, stage_end: int, scalars: dict[str, float]) -> dict[str, float]:
        """Prints the line; returns the speed for the writers."""
        now = time.monotonic()
        steps = step - self._last[0]
        seconds = max(now - self._last[1] - self._paused_s, 1e-9)
        self._last, self._paused_s = (step, now), 0.0
        rate = steps / seconds
        left = (stage_end - step) / rate
        shown = "  ".join(f"{name} {value:.3f}" for name, value in scalars.items())
        speed = {"videos_per_s": rate * self._videos_per_step, "steps_per_s": rate}
        if not is_main():
            return speed
        print(
            f"{stage:<8} step {step:>{len(str(self._total))}}/{self._total}  {shown}  "
            f"{rate * self._videos_per_step:6.1f} videos/s  {_clock(left)} left of {stage}",
            file=sys.stderr,
            flush=True,
        )
        return speed


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
    )
