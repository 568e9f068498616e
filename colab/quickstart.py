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
# # Quickstart: from videos to a trained model
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/unloc_jax/blob/main/colab/quickstart.ipynb)
#
# Synthetic videos are made, a small UnLoc is trained on them from scratch while you watch, its numbers are measured next to
# controls, and it is asked about a video that it has not seen. Training takes about five minutes on two CPU cores.
#
# The steps are those of `make quickstart`, whose numbers the README explains.

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
NUM_TRAIN = 1200  # @param {type: "integer"}
NUM_TEST = 150  # @param {type: "integer"}
STEPS = 600  # @param {type: "integer"}

# %% [markdown]
# ## Data
#
# Every video shows four or five described events among distractors, such as "a red circle moves to the left". `build` decodes
# the videos and writes their frames and sentences to shards, from which training reads.

# %%
# %unloc data synthesize --out raw --num-train {NUM_TRAIN} --num-val 60 --num-test {NUM_TEST}

# %%
# %unloc data build --dataset activitynet_captions \
#     --annotations raw/annotations/captions_train.json raw/annotations/captions_val.json raw/annotations/captions_test.json \
#     --videos raw/videos --out shards --short-side 32 --fps 10

# %% [markdown]
# ## Training
#
# There are two stages: a contrastive one, which replaces CLIP's pretraining (segments against their sentences), and the
# localisation itself. The charts change while it trains. Run the cell again after an interruption: it continues.

# %%
import unloc_jax
from unloc_jax.notebooks import LiveCharts

scores = unloc_jax.train(
    "configs/quickstart.py",
    "run",
    {
        "data.dir": "shards",
        "contrastive.steps": STEPS,
        "contrastive.warmup_steps": STEPS // 12,
        "train.steps": STEPS,
        "train.warmup_steps": STEPS // 12,
        "log_every_steps": max(STEPS // 20, 1),
        "evaluation.every_steps": max(STEPS // 5, 1),
        "checkpoint.every_steps": max(STEPS // 2, 1),
    },
    watcher=LiveCharts(),
)

# %% [markdown]
# ## Evaluation
#
# R@1 at IoU 0.5 is the share of sentences whose first segment overlaps the right one by half. The controls say what that is
# worth: the same model asked with another sentence, and the best answer without the video.

# %%
result = unloc_jax.evaluate("run")
result

# %% [markdown]
# ## A video that it has not seen

# %%
import json
from pathlib import Path

captions = json.loads(Path("raw/annotations/captions_test.json").read_text())
video_id = min(captions)
found = unloc_jax.load("run")(f"raw/videos/{video_id}.mp4", captions[video_id]["sentences"])
found

# %%
found.save("report.html")

# %% [markdown]
# Next: [your own dataset](your_dataset.ipynb).
