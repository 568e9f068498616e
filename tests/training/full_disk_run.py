"""`toy_run.py` on a disk that is full from the second checkpoint on."""

import resource
import sys

from tests.training.toy_run import use_toys
from unloc_jax.cli import main

_ROOM = 1000  # bytes


def _fill_the_disk() -> None:
    from unloc_jax.training.checkpoints.writing import Checkpoints

    save = Checkpoints.save

    def save_and_fill(self, state, step, history=None):
        save(self, state, step, history)
        self.wait()
        resource.setrlimit(resource.RLIMIT_FSIZE, (_ROOM, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    Checkpoints.save = save_and_fill


if __name__ == "__main__":
    use_toys(setattr)
    _fill_the_disk()
    sys.exit(main())
