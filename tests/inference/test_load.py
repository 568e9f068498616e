"""`unloc_jax.load` of everything it takes, and the examples of the docstrings."""

import doctest
import importlib
import shutil

import pytest
from huggingface_hub import constants

import unloc_jax
from tests.pretrained.clip_originals import GOLDENS
from tests.pretrained.clip_tools import clip_with_all_words
from unloc_jax.errors import UserError
from unloc_jax.features.clip_encoder import fingerprint
from unloc_jax.pretrained.clip_model import load_clip, save_clip
from unloc_jax.pretrained.clip_source import read_any_clip

pytestmark = pytest.mark.slow

WITH_EXAMPLES = (
    "unloc_jax.features.clip_encoder",
    "unloc_jax.inference.embedded_video",
    "unloc_jax.inference.load",
    "unloc_jax.inference.localizer",
    "unloc_jax.inference.zeroshot",
    "unloc_jax.programs",
)


@pytest.fixture(scope="module")
def folder(trained, captions_dataset, tiny_videos, tmp_path_factory):
    """The files that the examples name: RUN, SHARDS, CLIP and video.mp4."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(trained, folder / "RUN")
    (folder / "SHARDS").symlink_to(captions_dataset)
    save_clip(clip_with_all_words(), folder / "CLIP")
    shutil.copy(tiny_videos / "videos" / "test_00000.mp4", folder / "video.mp4")
    return folder


def test_examples(folder, monkeypatch):
    monkeypatch.chdir(folder)
    runner = doctest.DocTestRunner(optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    with_examples = set()
    for name in WITH_EXAMPLES:
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
            if test.examples:
                with_examples.add(test.name.rpartition(".")[2])
                runner.run(test)
    assert runner.summarize().failed == 0
    assert {"load", "Localizer", "ZeroShotLocalizer", "embed_video", "ClipEncoder"} <= with_examples


def test_what_load_takes(folder, monkeypatch):
    monkeypatch.chdir(folder)
    by_step = unloc_jax.load("RUN/checkpoints/5")
    assert isinstance(by_step, unloc_jax.Localizer) and by_step.describe()["checkpoint"] == "RUN, step 5"
    assert isinstance(unloc_jax.load(folder / "RUN", task="moment_retrieval"), unloc_jax.Localizer)
    for clip in ("CLIP", f"hf-clip:{GOLDENS / 'hf_gelu_sharded'}", GOLDENS / "hf_gelu_sharded"):
        assert isinstance(unloc_jax.load(clip), unloc_jax.ZeroShotLocalizer)
    for source, task, told in (
        ("RUN", "other", "--task=other: the tasks of"),
        ("CLIP", "other", "is a CLIP, which has no tasks"),
        ("nowhere", None, "nowhere is neither a folder nor an id"),
        (".", None, "holds no checkpoint"),
    ):
        with pytest.raises(UserError, match=told):
            unloc_jax.load(source, task)
    with pytest.raises(AttributeError, match="no attribute 'save'"):
        unloc_jax.save  # noqa: B018


def test_the_hub(folder, tmp_path, monkeypatch):
    """Its cache holds files as links to blobs; nothing here has a network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=r"someone/run is not a folder here, and .* not in the cache"):
        unloc_jax.load("someone/run")
    places = {"run": folder / "RUN", "clip": folder / "CLIP", "theirs": GOLDENS / "hf_gelu_sharded"}
    for name, place in places.items():
        repository = tmp_path / f"models--someone--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        blobs, snapshot = repository / "blobs", repository / "snapshots" / ("0" * 40)
        blobs.mkdir()
        for number, file in enumerate(path for path in place.rglob("*") if path.is_file()):
            shutil.copy(file, blobs / str(number))
            link = snapshot / file.relative_to(place)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(blobs / str(number))
    of_hub, of_folder = unloc_jax.load("someone/run"), unloc_jax.load(folder / "RUN")
    video = folder / "video.mp4"
    assert of_hub(video, "a square")[0].segments == of_folder(video, "a square")[0].segments
    for name in ("someone/clip@main", "someone/theirs"):
        assert isinstance(unloc_jax.load(name), unloc_jax.ZeroShotLocalizer)
    assert fingerprint(read_any_clip("someone/clip")) == fingerprint(load_clip(folder / "CLIP"))
