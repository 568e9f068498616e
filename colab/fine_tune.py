# ---
# jupyter:
#   accelerator: TPU
#   colab:
#     provenance: []
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Fine-tune from CLIP on a TPU or GPU
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/unloc_jax/blob/main/colab/fine_tune.ipynb)
#
# Image and text tower start from CLIP and learn with the rest, frames in, moments out: the paper's recipe, at a size that
# a free runtime holds. Choose a TPU or a GPU (*Runtime → Change runtime type*). It runs on a CPU too, at minutes per step.
#
# | it needs | |
# |---|---|
# | weights | CLIP B/16 of the Hugging Face hub, 600 MB |
# | memory | 5.8 GB of a TPU v5e's 16.9 at the values below, by the TPU's compiler. The cell *What a step costs* prints it for yours |
# | time | the same cell estimates it, on a TPU runtime |
#
# If memory is short: a smaller `BATCH_SIZE`, fewer `NUM_FRAMES`, or `accumulate=4` in `FURTHER`.

# %%
# @title Install { display-mode: "form" }
import importlib.util

from IPython import get_ipython

if importlib.util.find_spec("unloc_jax") is None:
    get_ipython().run_line_magic(
        "pip", "install --quiet 'unloc_jax[data] @ git+https://github.com/OWNER/unloc_jax'"
    )
get_ipython().run_line_magic("load_ext", "unloc_jax.notebooks")

# %%
import jax

print(jax.devices())
if jax.default_backend() == "cpu":
    print("no accelerator: choose a runtime with one, or take very few steps")

# %% [markdown]
# ## The data
#
# `SHARDS` is a folder of `unloc data build`, such as one in your Google Drive. Left empty, a small synthetic dataset is made.

# %%
SHARDS = ""  # @param {type: "string"}
CLIP = "openai/clip-vit-base-patch16"  # @param ["openai/clip-vit-base-patch16", "openai/clip-vit-large-patch14"] {allow-input: true}
SIZE = "B"  # @param ["B", "L"]
NUM_EXAMPLES = 60  # @param {type: "integer"}

import unloc_jax

from_clip = unloc_jax.clip_settings(CLIP)
side = from_clip["data.crop_size"]

# %%
if not SHARDS:
    few = NUM_EXAMPLES // 4 + 1
    # %unloc data synthesize --out example --num-train {NUM_EXAMPLES} --num-val {few} --num-test {few}
    files = " ".join(f"example/annotations/captions_{split}.json" for split in ("train", "val", "test"))
    # %unloc data build --dataset activitynet_captions --annotations {files} \
    #     --videos example/videos --out shards --short-side {side} --fps 5
    SHARDS = "shards"

# %% [markdown]
# ## The settings
#
# `configs/charades_sta.py` is the paper's recipe for moment retrieval. These change its size and its length; `QUERIES` of every
# video are in a step; `FURTHER` takes any other setting of the schema, such as `model.remat=dots accumulate=4`.

# %%
NUM_FRAMES = 32  # @param {type: "integer"}
QUERIES = 4  # @param {type: "integer"}
BATCH_SIZE = 8  # @param {type: "integer"}
STEPS = 500  # @param {type: "integer"}
FURTHER = ""  # @param {type: "string"}

config = f"configs/charades_sta.py:{SIZE}"
changed = from_clip | {
    "data.dir": SHARDS,
    "data.num_frames": NUM_FRAMES,
    "data.max_queries": QUERIES,
    "data.max_segments": QUERIES,
    "batch_size": BATCH_SIZE,
    "train.steps": STEPS,
    "train.warmup_steps": STEPS // 10,
    "log_every_steps": max(STEPS // 50, 1),
    "evaluation.every_steps": max(STEPS // 5, 1),
    "evaluation.batch_size": BATCH_SIZE,
    "checkpoint.every_steps": max(STEPS // 2, 1),
}
settings = [*unloc_jax.overrides_of(changed), *FURTHER.split()]

# %% [markdown]
# ## What a step costs
#
# `unloc compile` compiles the training step and reads memory and time from the result; it needs neither data nor weights. On
# a TPU runtime the TPU's own compiler does it for `v5e:1x1`, one chip of 17 GB, and names the time of a step. Elsewhere it
# is compiled for this machine's CPU: memory in float32, and no time.

# %%
import shlex

topology = "v5e:1x1" if jax.default_backend() == "tpu" else "cpu:1"
options = shlex.join(f"--config.{setting}" for setting in settings)
# %unloc compile --config={config} --topology={topology} {options}

# %% [markdown]
# ## Train

# %%
from unloc_jax.notebooks import LiveCharts

scores = unloc_jax.train(config, "run", settings, watcher=LiveCharts())

# %% [markdown]
# ## Evaluate

# %%
result = unloc_jax.evaluate("run")
result

# %%
why = unloc_jax.diagnose("moment-retrieval", SHARDS, result.predictions, subset="test", checkpoint="run")
why

# %% [markdown]
# Copy the folder `run` to your Google Drive: it is all that `unloc_jax.load` needs. A whole slice instead of one chip:
# docs/launch.md.
