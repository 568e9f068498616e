"""A model on VideoPrism's towers: from published weights over training to a checkpoint that predicts by itself."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import unloc_jax
from tests.pretrained.videoprism_tools import tensors, vocabulary, write
from tests.tiny import VIDEOPRISM, random_params, tiny_config, tiny_task
from unloc_jax.config import from_json
from unloc_jax.errors import UserError
from unloc_jax.model.videoprism_tower import videoprism_config
from unloc_jax.pretrained.videoprism import read_videoprism
from unloc_jax.pretrained.videoprism_towers import tower_settings
from unloc_jax.training.checkpoints.reading import find_checkpoint
from unloc_jax.training.init_from import initialize
from unloc_jax.training.optimizer import make_optimizer
from unloc_jax.training.state import TrainState

pytest.importorskip("sentencepiece", reason="sentencepiece is not here")
FROZEN = {
    **VIDEOPRISM,
    "modalities": {"rgb": {"encoder": "videoprism", "freeze": True}},
    "text": {**VIDEOPRISM["text"], "freeze": True},
}


def published(**changes):
    """Random tensors of the tiny towers' sizes, or others, by their published names."""
    sizes = videoprism_config(tiny_config(model=VIDEOPRISM).model.videoprism, with_text=True)
    return tensors(dataclasses.replace(sizes, **changes))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A folder with weights and the vocabulary, as `unloc import` makes them."""
    folder = tmp_path_factory.mktemp("published")
    write(folder / "flax_lvt_tiny_f4r16_repeated.npz", published())
    vocabulary(folder)
    return folder


def settings_of(folder) -> list[str]:
    return [f"--config.{line}" for line in unloc_jax.overrides_of(unloc_jax.videoprism_settings(str(folder)))]


def test_from_published_weights_to_a_prediction(
    unloc, weights, tmp_path, config_file, captions_dataset, tiny_videos
):
    folder, workdir = tmp_path / "imported", tmp_path / "run"
    told = unloc("import", "--from", "videoprism", weights, f"--out={folder}").ok()
    assert "VideoPrism LvT" in told.out and "16 pixels, windows of 4 frames" in told.out
    assert (
        "already holds weights" in unloc("import", "--from", "videoprism", weights, f"--out={folder}").error()
    )
    words = [
        "train",
        f"--config={config_file}",
        f"--workdir={workdir}",
        f"--config.data.dir={captions_dataset}",
    ]
    words += [*settings_of(folder), "--config.contrastive.steps=0", "--config.contrastive.warmup_steps=0"]
    words += ["--config.train.steps=2", "--config.train.warmup_steps=0", f"--config.init_from={folder}"]
    told = unloc(*words, "--config.train.learning_rates={'towers_': 0.0}").ok()
    count = sum(x.size for x in published().values())
    table = {line.split()[0]: line.split()[1:] for line in told.err.splitlines() if line.startswith("  ")}
    taken = [int(table[part][0].replace(",", "")) for part in ("towers_rgb", "text_tower")]
    assert sum(taken) == count and table["text_tower"][1:] == table["towers_rgb"][1:] == ["0", "0", "0"]

    # The checkpoint alone: weights, vocabulary and dataset are elsewhere.
    alone = tmp_path / "elsewhere"
    shutil.copytree(find_checkpoint(workdir), alone)
    shutil.rmtree(folder)
    video = sorted((tiny_videos / "videos").glob("*"))[0]
    found = unloc_jax.load(alone)
    params = found._model.params["towers_rgb"]
    first = read_videoprism(str(weights)).params
    np.testing.assert_allclose(params["encoder"]["spatial_position"], first["encoder"]["spatial_position"])
    text = "a red circle moves to the left"
    prediction = found(video, [text])[text]
    assert all(0 <= s.start_s <= s.end_s for s in prediction.segments) and len(prediction.relevance)
    said = unloc("predict", f"--checkpoint={alone}", f"--video={video}", f"--text={text}").ok()
    assert said.out
    # The run goes on with the vocabulary at another place, but not with another one.
    words = [word for word in words if not word.startswith("--config.model.text.sentencepiece")]
    other = tmp_path / "other.model"
    shutil.copy(weights / "sentencepiece.model", other)
    words += ["--config.train.learning_rates={'towers_': 0.0}", f"--config.model.text.sentencepiece={other}"]
    assert "nothing to do" in unloc(*words).ok().err
    import sentencepiece

    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(["a dog runs over the hill", "rain falls"] * 20),
        model_prefix=str(tmp_path / "other"), vocab_size=30, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    assert "the content of model.text.sentencepiece" in unloc(*words).error()
    # A checkpoint whose vocabulary is damaged is one.
    (alone / "vocabulary" / "sentencepiece.model").write_bytes(b"damaged")
    assert "damaged" in unloc("predict", f"--checkpoint={alone}", f"--video={video}", "--text=x").error()
    shutil.rmtree(alone / "vocabulary")
    assert "damaged" in unloc("predict", f"--checkpoint={alone}", f"--video={video}", "--text=x").error()


def test_without_a_vocabulary_training_does_not_begin(
    unloc, weights, tmp_path, config_file, captions_dataset
):
    words = ["train", f"--config={config_file}", f"--config.data.dir={captions_dataset}"]
    words += [word for word in settings_of(weights) if "sentencepiece" not in word]
    told = unloc(*words, f"--workdir={tmp_path / 'run'}").error()
    assert told.startswith("config.model.text.sentencepiece: give the SentencePiece file")
    gone = f"--config.model.text.sentencepiece={tmp_path / 'gone.model'}"
    assert "cannot be read: No such file" in unloc(*words, gone, f"--workdir={tmp_path / 'run'}").error()
    small = "--config.model.videoprism.vocabulary_size=7"
    given = f"--config.model.text.sentencepiece={weights / 'sentencepiece.model'}"
    assert "the model's table 7" in unloc(*words, given, small, f"--workdir={tmp_path / 'run'}").error()
    assert not (tmp_path / "run" / "checkpoints").exists()


def started(source, model, log=None):
    """The state of a model after init_from."""
    config = dataclasses.replace(tiny_config(model=model), init_from=str(source))
    params = jax.tree.map(jax.numpy.asarray, random_params(tiny_task(model=model)))
    return initialize(config, TrainState(0, params, {}), [].append if log is None else log)


def test_weights_of_another_size_are_refused_with_a_list(weights, tmp_path):
    def told(model, **changes) -> str:
        file = write(tmp_path / "w.npz", published(**changes))
        with pytest.raises(UserError) as error:
            started(f"videoprism:{file}", model)
        assert "\n" not in str(error.value)
        return str(error.value)

    message = told(VIDEOPRISM, spatial_layers=3, pooler_width=64, grid=(3, 3))
    for part in (
        "spatial_layers is 2, the weights' 3",
        "pooler_width is 32, the weights' 64",
        "grid is 2, the",
    ):
        assert f"config.model.videoprism.{part}" in message
    video_alone = {"pooler_width": 0, "auxiliary_layers": 0, "text": None}
    message = told(VIDEOPRISM, **video_alone)
    assert "video encoder alone: set config.model.videoprism.pooling = 'mean'" in message
    assert "no text encoder: set config.model.text.encoder = 'clip'" in message
    assert "this model has no tower of VideoPrism" in told({})
    arrays = published()
    arrays["params/more"] = np.zeros(2, np.float32)
    del arrays["params/text_encoder/unimodal_ln/bias"]
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(UserError, match=r"missing: text_encoder/unimodal_ln/bias; unexpected: more"):
        started(f"videoprism:{tmp_path / 'w.npz'}", VIDEOPRISM)
    # The video encoder alone, and a text tower of ours.
    mean = {**VIDEOPRISM, "text": {}, "videoprism": {**VIDEOPRISM["videoprism"], "pooling": "mean"}}
    file = write(tmp_path / "video.npz", published(**video_alone))
    found = started(f"videoprism:{file}", mean).params["towers_rgb"]["encoder"]
    first = read_videoprism(str(file)).params["encoder"]
    jax.tree.map(np.testing.assert_array_equal, found, first)


def test_sizes_have_names():
    model = {"videoprism": {"size": "large"}, "text": {"encoder": "videoprism"}}
    sizes = videoprism_config(tiny_config(model=model).model.videoprism, with_text=True)
    assert (sizes.width, sizes.spatial_layers, sizes.num_frames, sizes.text.vocabulary_size) == (
        1024,
        24,
        8,
        32_000,
    )
    settings = tower_settings(dataclasses.replace(_Weights(sizes)))
    assert settings == {
        "data.crop_size": 288,
        "model.modalities": {"rgb": {"encoder": "videoprism"}},
        "model.videoprism.size": "large",
        "model.videoprism.pooling": "attention",
        "model.text.encoder": "videoprism",
    }


@dataclasses.dataclass
class _Weights:
    config: object


def test_a_frozen_tower_has_no_optimizer_state():
    task = tiny_task(model=FROZEN)
    state = make_optimizer(task.config).init(random_params(task))
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(state)}
    assert not any("towers_rgb" in name or "text_tower" in name for name in names)
    assert any("fusion" in name for name in names)


def test_a_config_keeps_its_towers():
    config = tiny_config(model=VIDEOPRISM)
    assert from_json(json.dumps(dataclasses.asdict(config))) == config
