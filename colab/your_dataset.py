# ---
# jupyter:
#   accelerator: GPU
#   colab:
#     provenance: []
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own dataset
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/unloc_jax/blob/main/colab/your_dataset.ipynb)
#
# From a table of your annotations to a trained, measured and explained model: check → features → train → evaluate → diagnose.
# The model reads CLIP's features, which are computed once; so it trains in minutes on a free runtime. Fine-tuning CLIP itself
# is [another notebook](fine_tune.ipynb).
#
# Computing the features takes most of the time; a GPU shortens it (*Runtime → Change runtime type*).

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
# ## The data
#
# A folder of videos, and one table per split with *train*, *val* or *test* in its name:
#
# ```csv
# video,start,end,text
# kitchen_01,2.5,7.0,A man opens the door.
# ```
#
# Left empty, `VIDEOS` is replaced by a small synthetic dataset, so that you can see everything work first.

# %%
VIDEOS = ""  # @param {type: "string"}
TABLES = "train.csv val.csv test.csv"  # @param {type: "string"}
NUM_EXAMPLES = 60  # @param {type: "integer"}

import csv
import json
from pathlib import Path

if not VIDEOS:
    few = NUM_EXAMPLES // 4 + 1
    # %unloc data synthesize --out example --num-train {NUM_EXAMPLES} --num-val {few} --num-test {few}
    VIDEOS = "example/videos"
    for split in ("train", "val", "test"):
        captions = json.loads(Path(f"example/annotations/captions_{split}.json").read_text())
        with open(f"{split}.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(("video", "start", "end", "text"))
            for video, moments in captions.items():
                for (start, end), text in zip(moments["timestamps"], moments["sentences"]):
                    table.writerow((video, start, end, text))

# %% [markdown]
# ## Check
#
# What is there, everything that is wrong with it, and a pyramid that fits the lengths of your segments.

# %%
# %unloc data check --dataset csv --annotations {TABLES} --videos {VIDEOS}

# %% [markdown]
# ## Features, and shards of them
#
# The videos go through CLIP `FPS` times per second. Choose it so that your shortest segment has at least two frames. The same
# cell continues where it was stopped.

# %%
CLIP = "openai/clip-vit-base-patch32"  # @param ["openai/clip-vit-base-patch32", "openai/clip-vit-base-patch16", "openai/clip-vit-large-patch14"] {allow-input: true}
FPS = 2  # @param {type: "number"}

# %unloc features --clip {CLIP} --videos {VIDEOS} --fps {FPS} --out features \
#     --dataset csv --annotations {TABLES} --shards shards

# %% [markdown]
# ## Train
#
# The text tower is CLIP's and stays as it is; fusion, pyramid and heads are new. The settings to look at are the ones that
# `check` suggested: `NUM_FRAMES` at least two per shortest segment of your longest video.

# %%
NUM_FRAMES = 64  # @param {type: "integer"}
BATCH_SIZE = 16  # @param {type: "integer"}
STEPS = 400  # @param {type: "integer"}

import unloc_jax
from unloc_jax.notebooks import LiveCharts

scores = unloc_jax.train(
    "configs/quickstart.py",
    "run",
    unloc_jax.clip_settings(CLIP, features=True)
    | {
        "data.dir": "shards",
        "data.num_frames": NUM_FRAMES,
        "data.mirror": False,  # it mirrors frames, which are not there
        "batch_size": BATCH_SIZE,
        "model.text.freeze": True,
        "model.fusion.width": 256,
        "contrastive.steps": 0,
        "contrastive.warmup_steps": 0,
        "train.steps": STEPS,
        "train.warmup_steps": STEPS // 10,
        "log_every_steps": max(STEPS // 20, 1),
        "evaluation.every_steps": max(STEPS // 5, 1),
        "checkpoint.every_steps": max(STEPS // 2, 1),
    },
    watcher=LiveCharts(),
)

# %% [markdown]
# ## Evaluate
#
# Compare it with the controls, and with CLIP alone (`unloc evaluate --zeroshot-clip`, docs/clip.md). A model that does not beat
# the best constant segment has not learned to look.

# %%
result = unloc_jax.evaluate("run")
result

# %% [markdown]
# ## Why that score
#
# Which lengths are found, which kinds of errors cost how much, which videos are the worst, and which level of the pyramid is
# responsible.

# %%
why = unloc_jax.diagnose("moment-retrieval", "shards", result.predictions, subset="test", checkpoint="run")
why

# %% [markdown]
# ## A video
#
# A new video is embedded by the same CLIP.

# %%
with open(TABLES.split()[-1], newline="") as file:
    rows = list(csv.DictReader(file))
name = rows[0]["video"]
found = unloc_jax.load("run")(
    next(Path(VIDEOS).glob(f"{name}*")), [row["text"] for row in rows if row["video"] == name]
)
found
