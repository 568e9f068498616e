"""Compares the segments of bfloat16 and float32 inference, on a trained quickstart model and its test split.

python benchmarks/bfloat16.py [--checkpoint=quickstart/run_moment_retrieval]
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.reading.dataset import ShardedDataset
from unloc_jax.inference.loaded_model import load_model
from unloc_jax.metrics.tiou import segment_iou
from unloc_jax.paths import ArgumentParser
from unloc_jax.tasks import SplitPredictions
from unloc_jax.tasks.moment_retrieval import ranked_segments
from unloc_jax.tasks.predict_split import predict_split
from unloc_jax.training.sharding import batch_sharding


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=Path("quickstart/run_moment_retrieval"))
    arguments = parser.parse_args()

    model = load_model(arguments.checkpoint)
    dataset = ShardedDataset(model.task.config)
    records = dataset.records("test")
    texts = model.task.evaluation_texts(records)
    found: dict[str, SplitPredictions] = {}
    print(f"{arguments.checkpoint}, test: {len(records)} videos, {sum(map(len, texts))} queries")
    for name, dtype in (("float32", jnp.float32), ("bfloat16", jnp.bfloat16)):
        task = dataclasses.replace(model.task, model=model.task.model.clone(dtype=dtype))
        found[name] = predict_split(
            task,
            jax.jit(task.detect),
            model.params,
            dataset.evaluation_batches("test"),
            texts,
            batch_sharding(model.mesh),
        )
        scores = task.compute_metrics(records, found[name])
        print(f"  {name:<9}" + "".join(f"  {key} {value:5.2f}" for key, value in scores.items()))

    high, low = (ranked_segments(found[name]) for name in ("float32", "bfloat16"))
    overlaps = np.array([float(segment_iou(a[0], b[0])) for a, b in zip(high, low) if len(a) and len(b)])
    print(
        f"  the two first segments are the same (IoU > 0.9) for {100 * (overlaps > 0.9).mean():.1f} % of the queries"
    )


if __name__ == "__main__":
    main()
