"""Starting from another checkpoint: what fits comes over, shapes are adapted, and what does not come over is said."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from tests.tiny import SOUND, random_params, tiny_config, tiny_metadata, tiny_task
from unloc_jax.errors import UserError
from unloc_jax.pretrained.unloc_checkpoint import fit_checkpoint
from unloc_jax.tasks import make_task
from unloc_jax.training.checkpoints.reading import find_checkpoint
from unloc_jax.training.checkpoints.writing import Checkpoints
from unloc_jax.training.init_from import initialize
from unloc_jax.training.state import TrainState

FUSION = {"width": 16, "num_layers": 3, "num_heads": 2, "mlp_dim": 32}


def source_config(task: str = "video_text_contrastive", **model):
    base = tiny_config(task).model
    groups = {
        name: {**dataclasses.asdict(getattr(base, name)), **values}
        for name, values in {"fusion": FUSION, **model}.items()
    }
    return tiny_config(task, model=groups)


def state_of(params, step: int = 0) -> TrainState:
    params = jax.tree.map(jnp.asarray, params)
    return TrainState(jnp.int32(step), params, {"mu": jax.tree.map(jnp.zeros_like, params)})


def saved(workdir, config, seed: int = 1):
    """A workdir with a checkpoint of step 7; its parameters."""
    params = random_params(make_task(config, tiny_metadata()), seed)
    checkpoints = Checkpoints(workdir, config, {"main": dataclasses.asdict(tiny_metadata())})
    checkpoints.save(state_of(params, 7), 7)
    checkpoints.close()
    return params


def started(source, task: str = "moment_retrieval", data=None, **model):
    """(parameters as initialised, parameters after init_from, the lines that were said)."""
    config = dataclasses.replace(source_config(task, **model), init_from=str(source))
    if data:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
    own = random_params(make_task(config, tiny_metadata()), 0)
    state, said = state_of(own), []
    found = initialize(config, state, said.append)
    # It is a new run: its step and its optimizer begin anew, and every array is where it was.
    assert found.step == 0 and found.opt_state is state.opt_state
    shardings = [jax.tree.map(lambda x: x.sharding, tree) for tree in (found.params, state.params)]
    assert shardings[0] == shardings[1]
    return own, jax.device_get(found.params), said


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("pretrained")
    return workdir, saved(workdir, source_config())


def test_towers_and_fusion_come_over_and_the_head_is_new(pretrained):
    workdir, stored = pretrained
    own, params, said = started(workdir)
    for part in ("towers_rgb", "text_tower", "video_projection", "text_projection"):
        chex.assert_trees_all_equal(params[part], stored[part])
    layers = lambda tree: tree["fusion"]["encoder"]["transformer"]
    chex.assert_trees_all_equal(layers(params), layers(stored))
    chex.assert_trees_all_equal(params["head"], own["head"])

    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    assert said[0] == f"init_from: {find_checkpoint(workdir)}"
    assert said[1].split() == ["part", "taken", "over", "adapted", "new", "not", "used"]
    table = {line.split()[0]: [int(n.replace(",", "")) for n in line.split()[1:]] for line in said[2:]}
    assert table["towers_rgb"] == [count(own["towers_rgb"]), 0, 0, 0]
    assert table["fusion"] == [count(own["fusion"]), 0, 0, 0]
    assert table["head"] == [0, 0, count(own["head"]), 0]
    assert table["video_head"] == [0, 0, 0, count(stored["video_head"])]
    assert sum(table["all"][:3]) == count(own)


def test_the_same_model_comes_over_whole(pretrained):
    workdir, stored = pretrained
    _, params, said = started(workdir / "checkpoints" / "7", "video_text_contrastive")
    chex.assert_trees_all_equal(params, stored)
    assert [line.split()[2:] for line in said if line.split()[0] == "all"] == [["0", "0", "0"]]


def test_shapes_are_adapted(pretrained):
    """A larger picture, more frames that each have a class token, longer texts, patches that see their neighbours."""
    workdir, stored = pretrained
    own, params, said = started(
        workdir,
        data={"crop_size": 24, "num_frames": 12},
        image={"class_token_per_frame": True, "temporal_kernel": 3},
        text={"max_tokens": 11},
    )
    tower, before = params["towers_rgb"], stored["towers_rgb"]
    np.testing.assert_array_equal(tower["class_embedding"], np.tile(before["class_embedding"], (12, 1)))
    corner = before["position_embedding"][1:].reshape(2, 2, 16)
    np.testing.assert_array_equal(tower["position_embedding"][0], before["position_embedding"][0])
    grid = tower["position_embedding"][1:].reshape(3, 3, 16)
    np.testing.assert_array_equal(grid[::2, ::2], corner)
    np.testing.assert_allclose(grid[1, 1], corner.mean((0, 1)), atol=1e-6)
    kernel = tower["patch_embedding"]["kernel"].reshape(3, -1, 16)
    np.testing.assert_array_equal(kernel[1], before["patch_embedding"]["kernel"])
    assert not kernel[[0, 2]].any()
    positions = params["text_tower"]["position_embedding"]
    np.testing.assert_array_equal(positions[:8], stored["text_tower"]["position_embedding"])
    np.testing.assert_array_equal(positions[8:], own["text_tower"]["position_embedding"][8:])
    assert "  adapted: towers_rgb/position_embedding (5, 16) → (10, 16)" in said
    assert sum("adapted:" in line for line in said) == 4


def test_learned_positions_of_frames_are_stretched_and_those_of_texts_are_not(tmp_path):
    learned = {**FUSION, "positions": "learned", "all_text_tokens": True}
    stored = saved(tmp_path, source_config(fusion=learned))["fusion"]["encoder"]["position_embedding"]
    assert stored.shape == (8 + 8, 16)
    own, params, _ = started(tmp_path, data={"num_frames": 15}, fusion=learned, text={"max_tokens": 5})
    found = params["fusion"]["encoder"]["position_embedding"]
    assert found.shape == own["fusion"]["encoder"]["position_embedding"].shape == (20, 16)
    np.testing.assert_allclose(found[:15:2], stored[:8], atol=1e-6)
    np.testing.assert_allclose(found[1:15:2], (stored[:7] + stored[1:8]) / 2, atol=1e-6)
    np.testing.assert_array_equal(found[15:], stored[8:13])


def test_a_pyramid_from_the_fusions_layers_finds_the_layers(pretrained):
    """One encoder's three layers become the other's single layer in front of each level; a fourth layer is new."""
    workdir, stored = pretrained
    whole = stored["fusion"]["encoder"]["transformer"]["layers"]
    fpn = {"type": "fpn", "layers": (1, 2, 3)}
    own, params, _ = started(workdir, fusion={**FUSION, "num_layers": 4}, pyramid=fpn)
    encoder = params["fusion"]["encoder"]
    for name, at in (("transformer_0", slice(0, 2)), ("transformer_1", slice(2, 3))):
        jax.tree.map(
            lambda a, b, at=at: np.testing.assert_array_equal(a, b[at]), encoder[name]["layers"], whole
        )
    chex.assert_trees_all_equal(encoder["transformer_2"], own["fusion"]["encoder"]["transformer_2"])
    _, params, _ = started(workdir, fusion={**FUSION, "num_layers": 2})
    of_two = params["fusion"]["encoder"]["transformer"]["layers"]
    chex.assert_trees_all_equal(of_two, jax.tree.map(lambda x: x[:2], whole))


def test_a_tower_of_another_size_is_refused(pretrained):
    with pytest.raises(
        UserError, match=r"text_tower/token_embedding/embedding is \(49408, 16\) there and .* 32\)"
    ):
        started(pretrained[0], text={"width": 32})
    with pytest.raises(UserError, match=r"model\.image\.activation is 'quick_gelu' there and 'gelu' here"):
        started(pretrained[0], image={"activation": "gelu"})


def test_a_tower_of_sound_hears_longer_and_finer():
    """Positions of its patches are stretched over bands and times; those of another width are refused."""
    audio = SOUND["audio"]
    of = lambda **changes: tiny_task(model={**SOUND, "audio": {**audio, **changes}})
    flat = lambda task: traverse_util.flatten_dict(random_params(task), sep="/")
    before, after = of(), of(window_s=0.07, num_mels=12)
    stored, name = flat(before), "towers_audio/position_embedding"
    taken = fit_checkpoint(stored, before.config, flat(after), after.config)
    assert stored[name].shape == (2, 2, 16) and taken[name].shape == (3, 3, 16)
    np.testing.assert_array_equal(taken[name][::2, ::2], stored[name])
    np.testing.assert_allclose(taken[name][1, 1], stored[name].mean((0, 1)), atol=1e-6)
    assert taken.keys() == stored.keys()
    wider = of(width=32)
    with pytest.raises(UserError, match=r"towers_audio/norm_out/scale is \(16,\) there and \(32,\) here"):
        fit_checkpoint(stored, before.config, flat(wider), wider.config)


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match=rf"config\.init_from={tmp_path} holds no checkpoint"):
        started(tmp_path)


def test_nothing_in_common(tmp_path, pretrained):
    config = dataclasses.replace(tiny_config(), init_from=str(pretrained[0]))
    with pytest.raises(UserError, match="no parameter of this model's names"):
        initialize(config, state_of({"other": {"kernel": np.zeros((4, 2), np.float32)}}), print)
