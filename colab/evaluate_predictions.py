# ---
# jupyter:
#   colab:
#     provenance: []
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Evaluate a checkpoint, or anybody's predictions
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/unloc_jax/blob/main/colab/evaluate_predictions.ipynb)
#
# The official numbers of a file of predictions, from any program, and the reasons for them: `unloc metrics` and
# `unloc diagnose`. They read the datasets' own files, need neither videos nor an accelerator, and take seconds.

# %%
# @title Install { display-mode: "form" }
import importlib.util

from IPython import get_ipython

if importlib.util.find_spec("unloc_jax") is None:
    get_ipython().run_line_magic(
        "pip", "install --quiet 'unloc_jax[data] @ git+https://github.com/OWNER/unloc_jax'"
    )
get_ipython().run_line_magic("load_ext", "unloc_jax.notebooks")

# %% [markdown]
# ## The files
#
# For ActivityNet that is `activity_net.v1-3.min.json` and `{"results": {video: [{"segment", "label", "score"}]}}`; the other
# protocols' formats are in docs/metrics.md. The ground truth may also be your own CSV, or shards. Left empty, an example is
# made: predictions of an imaginary detector whose boundaries are imprecise, and which takes *long jump* for *triple jump*.

# %%
PROTOCOL = "activitynet"  # @param ["activitynet", "thumos14", "moment-retrieval", "qvhighlights"]
GROUND_TRUTH = ""  # @param {type: "string"}
PREDICTIONS = ""  # @param {type: "string"}
SUBSET = "validation"  # @param {type: "string"}

import json

import numpy as np

if not PREDICTIONS:
    rng = np.random.default_rng(0)
    classes = ("long jump", "triple jump", "pole vault", "javelin throw", "hurdles")
    mistaken = {"long jump": "triple jump"}
    database, results = {}, {}
    for number in range(120):
        name, duration = f"video_{number:03d}", float(rng.uniform(60, 180))
        lengths = np.minimum(rng.lognormal(2.3, 0.8, rng.integers(1, 5)), duration / 3)
        starts = rng.uniform(0, duration - lengths)
        truth = [
            {"segment": [round(start, 2), round(start + length, 2)], "label": str(rng.choice(classes))}
            for start, length in zip(starts.tolist(), lengths.tolist())
        ]
        found = []
        for action in truth:
            start, end = np.clip(action["segment"] + rng.normal(0, 2.0, 2), 0, duration).tolist()
            label = mistaken.get(action["label"], action["label"]) if rng.random() < 0.4 else action["label"]
            score = float(rng.uniform(0.4, 0.9))
            found.append({"segment": [min(start, end), max(start, end)], "label": label, "score": score})
        for start in rng.uniform(0, duration - 10, 3).tolist():
            label, score = str(rng.choice(classes)), float(rng.uniform(0.1, 0.6))
            found.append({"segment": [start, start + 8.0], "label": label, "score": score})
        database[name] = {"subset": SUBSET, "duration": duration, "annotations": truth}
        results[name] = found
    PROTOCOL, GROUND_TRUTH, PREDICTIONS = "activitynet", "truth.json", "predictions.json"
    with open(GROUND_TRUTH, "w") as file:
        json.dump({"database": database}, file)
    with open(PREDICTIONS, "w") as file:
        json.dump({"results": results}, file)

# %% [markdown]
# ## Official numbers
#
# Those of the official evaluator, to the last digit.

# %%
import unloc_jax

subset = SUBSET if PROTOCOL in ("activitynet", "thumos14") else None
numbers = unloc_jax.measure(PROTOCOL, GROUND_TRUTH, PREDICTIONS, subset=subset)
numbers

# %% [markdown]
# ## The reasons

# %%
why = unloc_jax.diagnose(PROTOCOL, GROUND_TRUTH, PREDICTIONS, subset=subset)
why

# %%
why.save("diagnosis.html")

# %% [markdown]
# ## A checkpoint
#
# `CHECKPOINT` is a workdir of `unloc train`. Its predictions are written in the official format, so that everything above
# works for them too. `DATASET` is needed if the shards have moved since training.

# %%
CHECKPOINT = ""  # @param {type: "string"}
DATASET = ""  # @param {type: "string"}
SPLIT = "test"  # @param ["train", "validation", "test"]

from IPython.display import display

if CHECKPOINT:
    result = unloc_jax.evaluate(CHECKPOINT, SPLIT, data_dir=DATASET or None)
    display(result)
    protocol = "moment-retrieval" if result.predictions.suffix == ".jsonl" else "activitynet"
    display(
        unloc_jax.diagnose(protocol, result["data"], result.predictions, subset=SPLIT, checkpoint=CHECKPOINT)
    )
