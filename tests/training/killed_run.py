"""`unloc train …` that ends itself by kill -9: `python -m tests.training.killed_run MOMENT STEP train …`.

MOMENT is "saving" (the checkpoint of STEP is written, but has not got its name yet), "saved" (it has) or "logged" (the
line of STEP is in metrics.jsonl).
"""

import os
import signal
import sys
from pathlib import Path

from unloc_jax.cli import main


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _watch(moment: str, step: int) -> None:
    from unloc_jax.training.metric_writers import MetricWriter

    write = MetricWriter.write

    def write_and_die(self, at, scalars):
        write(self, at, scalars)
        if at == step:
            _die()

    if moment == "logged":
        MetricWriter.write = write_and_die
        return
    named: list[Path] = []

    def hook(event, arguments):
        if event != "os.kill" and named and named[0].is_dir():
            _die()
        if event == "os.rename":
            new = Path(os.fsdecode(arguments[1]))
            if new.parts[-2:] == ("checkpoints", str(step)):
                if moment == "saving":
                    _die()
                named.append(new)

    sys.addaudithook(hook)


if __name__ == "__main__":
    _watch(sys.argv[1], int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
