"""Reports a stretch of steps: a line on the terminal, and scalars of speed, time and memory."""

import sys
from collections.abc import Mapping

import jax

from unloc_jax.config import Config
from unloc_jax.processes import is_main
from unloc_jax.tasks import Task
from unloc_jax.training.clock import Clock
from unloc_jax.training.flops import peak_flops, train_step_flops
from unloc_jax.training.task_mixing import tasks_of_steps

_GIB = 2**30
_NOT_SHOWN = ("gradient_norm", "similarity_scale")
_PAUSES = ("compile", "checkpoint", "evaluation")  # not training: excluded from speed


class Progress:
    """Prints one line per report: stage, step, loss, videos/s, fraction of time waiting for input, time left in the
    stage.

    Args:
      config: The experiment's config.
      tasks: By name.
      first_step: First step of this process, from 0.
      clock: Of the run.
    """

    def __init__(self, config: Config, tasks: Mapping[str, Task], first_step: int, clock: Clock):
        self._config, self._last, self._clock = config, first_step, clock
        self._steps = tasks_of_steps(config)
        self._tasks = tasks
        peak = peak_flops(jax.devices()[0].device_kind)
        self._peak_flops = peak * jax.device_count() if peak else None

    def report(self, stage: str, done: int, numbers: Mapping[str, float]) -> dict[str, float]:
        """Prints the line and returns speed, MFU, the split of time and the memory, for the writers.

        Args:
          stage: "contrastive" or "train".
          done: Number of steps done.
          numbers: Metrics of the last step; the parts of the loss among them are printed.
        """
        config, split = self._config, self._clock.split()
        count = done - self._last
        busy_s = max(split["total"] - sum(split[kind] for kind in _PAUSES), 1e-9)
        views, steps = config.task_configs, self._steps[self._last : done]
        videos = sum(views[name].batch_size for names in steps for name in names)
        frames = sum(
            views[name].batch_size * views[name].data.num_frames for names in steps for name in names
        )
        self._last = done
        scalars = {
            "steps_per_s": count / busy_s,
            "videos_per_s": videos / busy_s,
            "frames_per_s": frames / busy_s,
            "input_fraction": split["input"] / busy_s,
            **{f"time/{kind}": seconds / count for kind, seconds in split.items()},
            "goodput": self._clock.goodput,
            **_memory(),
        }
        if self._peak_flops:
            scalars["mfu"] = self._flops(steps, stage) / busy_s / self._peak_flops
        stage_end = config.contrastive.steps if stage == "contrastive" else config.total_steps
        left = _clock_face((stage_end - done) * busy_s / count)
        shown = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items() if name not in _NOT_SHOWN)
        if is_main():
            print(
                f"{stage:<11} step {done:>{len(str(config.total_steps))}}/{config.total_steps}  {shown}  "
                f"{videos / busy_s:6.1f} videos/s  input {100 * scalars['input_fraction']:.0f} %  "
                f"{left} left of {stage}",
                file=sys.stderr,
                flush=True,
            )
        return scalars

    def _flops(self, steps: list[tuple[str, ...]], stage: str) -> float:
        views = self._config.task_configs
        flops = {
            name: train_step_flops(views[name], len(task.classes) or None, stage)
            for name, task in self._tasks.items()
        }
        return sum(flops[name] for names in steps for name in names)


def _memory() -> dict[str, float]:
    """Returns the memory statistics of this process's first device; {} on a CPU, which has none."""
    stats = jax.local_devices()[0].memory_stats() or {}
    names = {"memory/in_use_gib": "bytes_in_use", "memory/peak_gib": "peak_bytes_in_use"}
    return {name: stats[key] / _GIB for name, key in names.items() if key in stats}


def _clock_face(seconds: float) -> str:
    """Formats seconds as H:MM:SS or M:SS."""
    minutes, seconds = divmod(round(seconds), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}" if minutes >= 60 else f"{minutes}:{seconds:02d}"
    )
