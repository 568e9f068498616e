"""Times further texts on a video whose embedding a `Localizer` has cached; the numbers of docs/python.md.

python -m benchmarks.localizer --video FILE [--config configs/charades_sta.py:B] [--config.KEY=VALUE] [--texts 4]
"""

import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from unloc_jax import config as config_lib
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.inference.loaded_model import LoadedModel
from unloc_jax.inference.localizer import Localizer
from unloc_jax.inference.predictions import VideoPrediction
from unloc_jax.paths import ArgumentParser
from unloc_jax.tasks import make_task
from unloc_jax.tasks.parameters import init_params
from unloc_jax.training.sharding import make_mesh


def main() -> None:
    parser = ArgumentParser()
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--config", default="configs/charades_sta.py:B")
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--repeat", type=int, default=3)
    arguments, overrides = parser.parse_known_args()
    config = config_lib.load(arguments.config, [item.removeprefix("--config.") for item in overrides])
    metadata = DatasetMetadata("none", 10.0, 256, [], [], "none")
    task = make_task(config, metadata)
    params = jax.jit(lambda: init_params(task, 0))()  # untrained: as quick as a trained one
    mesh = make_mesh(config.mesh, config.evaluation.batch_size)
    localizer = Localizer(LoadedModel(Path("untrained/1"), task, params, metadata, mesh, config.task))
    texts = lambda turn: [f"a person does thing number {turn}.{i}" for i in range(arguments.texts)]
    ask = lambda video, turn: localizer(video, texts(turn))

    first_s, _ = timed(lambda: ask(arguments.video, 0))  # compiles
    embedded = localizer.embed_video(arguments.video)
    again_s, cached = timed(lambda: ask(arguments.video, 1), arguments.repeat)

    def anew() -> VideoPrediction:
        localizer._kept = type(localizer._kept)(0)
        return ask(arguments.video, 1)

    uncached_s, fresh = timed(anew, arguments.repeat)
    same = all(a.segments == b.segments for a, b in zip(cached, fresh))
    settings = f"{arguments.config}, {config.data.num_frames} frames"
    print(f"{arguments.video.name}, {fresh.duration_s:.0f} s; {settings}; {jax.devices()[0].device_kind}")
    print(f"  embedded: {embedded.nbytes / 1e6:.2f} MB; same segments and scores: {same}")
    print(f"  first call, with compiling              {first_s:8.2f} s")
    print(f"  {arguments.texts:2d} texts, decoding and embedding again {uncached_s:8.2f} s")
    print(f"  {arguments.texts:2d} texts, the video embedded already   {again_s:8.2f} s")
    print(f"  speedup                                 {uncached_s / again_s:8.1f} ×")


def timed(call: Callable[[], VideoPrediction], repeat: int = 1) -> tuple[float, VideoPrediction]:
    """Returns (median seconds, the last result) of `repeat` calls."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
    return float(np.median(times)), result


if __name__ == "__main__":
    main()
