"""`unloc import` as a user meets it: the checkpoint predicts, is evaluated and starts a training."""

import re
from pathlib import Path

import flax.training.checkpoints
import numpy as np
import pytest

from unloc_jax.pretrained.scenic_source import read_params

OWN = Path(__file__).parents[1] / "goldens" / "scenic"
RETRIEVAL = "mr_fpn_ws0_gather1_focal_iou"
LOCALIZATION = "tal_fpn_ws1_opc1_alltext_focal_iou_ls"
# The goldens' vocabulary has 100 tokens: real words need all of them, so these rows are invented.
WORDS = 49_408


@pytest.fixture(scope="module")
def with_all_words(tmp_path_factory) -> Path:
    """The reference's parameters with an embedding for every word, as Scenic's trainer writes them (msgpack)."""
    folder = tmp_path_factory.mktemp("scenic")
    nested: dict = {}
    for name, array in read_params(OWN / f"{RETRIEVAL}.npz").items():
        if name == "text_encoder/token_embedding/embedding":
            array = np.random.default_rng(0).normal(0, 0.1, (WORDS, array.shape[1])).astype(np.float32)
        *groups, leaf = name.split("/")
        at = nested
        for group in groups:
            at = at.setdefault(group, {})
        at[leaf] = array
    state = {"global_step": 7, "params": nested, "opt_state": {}, "rng": np.zeros(2, np.uint32)}
    flax.training.checkpoints.save_checkpoint(str(folder), state, 7)
    config = (OWN / f"{RETRIEVAL}.json").read_text().replace('"vocab_size": 100', f'"vocab_size": {WORDS}')
    (folder / "config.json").write_text(config)
    return folder


@pytest.mark.slow
def test_an_imported_checkpoint_is_good_for_everything(
    with_all_words, captions_dataset, tiny_videos, unloc, tmp_path
):
    told = unloc(
        "import", "--from=scenic-unloc", with_all_words, f"--config={with_all_words / 'config.json'}",
        f"--out={tmp_path / 'imported'}", "--config.data.crop_size=16", "--config.model.text.max_tokens=16",
    ).ok()  # fmt: skip
    assert (
        "197 arrays" in told.out
        and "adapted: text_encoder/positional_embedding (6, 32) → (16, 32)" in told.out
    )

    video = next((tiny_videos / "videos").glob("test_*.mp4"))
    told = unloc(
        "predict", f"--checkpoint={tmp_path / 'imported'}", f"--video={video}", "--text=a red circle moves"
    )
    assert "a red circle moves" in told.ok().out

    told = unloc("evaluate", f"--checkpoint={tmp_path / 'imported'}", f"--data-dir={captions_dataset}").ok()
    assert "control: best constant segment" in told.out

    config = tmp_path / "config.py"
    config.write_text(
        "import json\n\n\ndef get_config():\n"
        f"    config = json.load(open({str(tmp_path / 'config.json')!r}))\n    return config\n"
    )
    imported = (tmp_path / "imported").resolve()
    from unloc_jax.config import to_json
    from unloc_jax.training.checkpoints.reading import find_checkpoint, load_checkpoint

    (tmp_path / "config.json").write_text(to_json(load_checkpoint(find_checkpoint(imported))[0]))
    told = unloc(
        "train", f"--config={config}", f"--workdir={tmp_path / 'tuned'}", f"--config.data.dir={captions_dataset}",
        f"--config.init_from={imported}", "--config.train.steps=2", "--config.train.warmup_steps=0",
        "--config.batch_size=2", "--config.evaluation.batch_size=2",
    ).ok()  # fmt: skip
    rows = re.findall(r"^  \w+ +([\d,]+) +(\d+) +(\d+) +(\d+)$", told.err, re.MULTILINE)
    assert len(rows) >= 5 and all(row[0] != "0" and row[1:] == ("0", "0", "0") for row in rows), told.err


def test_a_vocabulary_needs_its_names(unloc, tmp_path):
    words = (
        "import",
        "--from=scenic-unloc",
        OWN / f"{LOCALIZATION}.npz",
        f"--config={OWN / LOCALIZATION}.json",
    )
    assert unloc(*words, f"--out={tmp_path / 'a'}").error().startswith("--classes is needed: a text file")
    (tmp_path / "classes.txt").write_text("run\njump\nthrow\nswim\nskate\n")
    unloc(*words, f"--out={tmp_path / 'a'}", f"--classes={tmp_path / 'classes.txt'}").ok()
    again = unloc(*words, f"--out={tmp_path / 'a'}", f"--classes={tmp_path / 'classes.txt'}").error()
    assert "already holds a checkpoint" in again


def test_a_config_that_does_not_fit_lists_the_names(unloc, tmp_path):
    told = unloc(
        "import", "--from=scenic-unloc", OWN / f"{LOCALIZATION}.npz", f"--config={OWN / RETRIEVAL}.json",
        f"--out={tmp_path}",
    )  # fmt: skip
    assert "missing: moment_retrieval_head/ClassificationHead_0/" in told.error()
