"""How long the training step of a full-size config takes to trace and to compile, on this machine's CPU backend.

python benchmarks/compile_time.py [--config=configs/charades_sta.py:B] [--videos=1] [--classes=200]
"""

import argparse
import time

import jax

from unloc_jax import config as config_lib
from unloc_jax.aot.step import abstract_batch
from unloc_jax.dataset import DatasetFacts
from unloc_jax.tasks import make_task
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.sharding import make_mesh
from unloc_jax.training.state import abstract_state, count_parameters
from unloc_jax.training.step import make_loss, make_train_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="configs/charades_sta.py:B")
    parser.add_argument("--videos", type=int, default=1, help="per step")
    parser.add_argument("--classes", type=int, default=200, help="of a task with a vocabulary")
    arguments = parser.parse_args()

    config = config_lib.load(arguments.config, [f"batch_size={arguments.videos}", "model.dtype=bfloat16"])
    facts = DatasetFacts("benchmark", 1.0, 224, [f"class {i}" for i in range(arguments.classes)], [], "")
    task = make_task(config, facts)
    mesh, optimizer = make_mesh(config.mesh, config.batch_size), make_optimizer(config)
    state = abstract_state({config.task: task}, optimizer, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, state)
    loss = make_loss({config.task: task}, {config.task: 1.0}, "train")
    step = make_train_step(loss, optimizer, mesh, shardings, config.seed)

    started = time.perf_counter()
    lowered = step.lower(state, {config.task: abstract_batch(config)}, {})
    traced = time.perf_counter()
    compiled = lowered.compile()
    done = time.perf_counter()
    memory = compiled.memory_analysis()
    print(
        f"{arguments.config}, {arguments.videos} video(s), {count_parameters(state.params) / 1e6:.1f} M parameters"
    )
    print(f"  trace   {traced - started:6.1f} s")
    print(f"  compile {done - traced:6.1f} s")
    print(f"  in all  {done - started:6.1f} s; temporaries {memory.temp_size_in_bytes / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
