"""`unloc …` in a separate process, watched: `python -m tests.child train …`.

At its end it prints which groups of devices have met for the first time after `connect` ("met later: …"). With the
environment variable ENDLESS the batches of an evaluation never end; "evaluating" is said at the first one.
"""

import itertools
import os
import sys
import time

from unloc_jax.cli import main


def _groups() -> set[str]:
    """Of devices that gloo has connected, by their ids; none in a single process."""
    from unloc_jax import coordination

    client = coordination.client()
    if client is None:
        return set()
    keys = [key for key, _ in client.key_value_dir_get_bytes("cpu:gloo")]
    return {key.rpartition("/")[0] for key in keys}


def _watched_main() -> int:
    import data_pipelines.reading.dataset
    from unloc_jax.inference import loaded_model
    from unloc_jax.training import cpu_collectives, loop

    at_start: set[str] = set()

    def connect(mesh):
        cpu_collectives.connect(mesh)
        at_start.update(_groups())

    loop.connect = loaded_model.connect = connect
    if "ENDLESS" in os.environ:
        once = data_pipelines.reading.dataset.ShardedDataset.evaluation_batches

        def endless(self, split):
            (batch, *_) = once(self, split)
            print("evaluating", file=sys.stderr, flush=True)
            for _ in itertools.count():
                yield batch
                time.sleep(0.01)

        data_pipelines.reading.dataset.ShardedDataset.evaluation_batches = endless
    status = main()
    if at_start and not status:
        print("met later:", sorted(_groups() - at_start), file=sys.stderr, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(_watched_main())
