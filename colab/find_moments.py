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
# # Find moments in your own video
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/unloc_jax/blob/main/colab/find_moments.ipynb)
#
# You give a video and a few sentences; you get the seconds at which each of them happens. Nothing is trained: CLIP compares
# every frame with every sentence. That finds *what* is to be seen, and little of *what moves how*; for that, train a model
# (the other notebooks).
#
# It needs no accelerator. The weights of B/32, 600 MB, are downloaded once.

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
# ## The video
#
# *example* makes a short one with moving shapes, *upload* (on Colab) asks for a file of yours, and *link* downloads one (or takes a
# path, such as that of a file in your Google Drive).

# %%
SOURCE = "example"  # @param ["example", "upload", "link"]
LINK = ""  # @param {type: "string"}

import os
import urllib.request

if SOURCE == "upload":
    from google.colab import files

    video = next(iter(files.upload()))
elif SOURCE == "link" and os.path.exists(LINK):
    video = LINK
elif SOURCE == "link":
    video, _ = urllib.request.urlretrieve(LINK, "video" + os.path.splitext(LINK.split("?")[0])[1])
else:
    # %unloc data synthesize --out example --num-train 1 --num-val 1 --num-test 1
    video = "example/videos/test_00000.mp4"

# %% [markdown]
# ## The sentences
#
# Several have semicolons between them. Describe what is to be seen, as a caption would.

# %%
TEXTS = "a red square; a blue circle; a red circle"  # @param {type: "string"}
CLIP = "openai/clip-vit-base-patch32"  # @param ["openai/clip-vit-base-patch32", "openai/clip-vit-base-patch16", "openai/clip-vit-large-patch14"] {allow-input: true}

import unloc_jax

localizer = unloc_jax.load(CLIP)
found = localizer(video, [text.strip() for text in TEXTS.split(";")])
found

# %% [markdown]
# Click a bar to play that moment. Each sentence has a curve, how similar every moment is to it, and its best segments. Scores
# rank the moments of one sentence; they do not say whether it happens at all.
#
# The same as numbers:

# %%
for text in found:
    print(text.text, "–", text.segments[0] if text.segments else "nowhere")

# %% [markdown]
# Further sentences for the same video are quick, because it is embedded only once. `save` writes the page above as one file
# that needs no network, or the numbers as JSON.

# %%
localizer(video, "an empty background").save("more.json")
found.save("report.html")

# %% [markdown]
# Next: [train on your own dataset](your_dataset.ipynb), or see [how a model learns](quickstart.ipynb). In a terminal the same
# is `unloc zeroshot --clip openai/clip-vit-base-patch32 --video FILE --text "…" --out report.html`.
