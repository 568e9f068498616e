"""The reference's parameters as ours: against its numbers, there and back, and what does not fit."""

import json
from pathlib import Path

import chex
import jax
import numpy as np
import pytest

from tests.check_goldens import main as check_goldens
from tests.golden_checks.imported import Golden
from tests.golden_checks.numbers import projected_difference
from unloc_jax.config import from_mapping, to_json
from unloc_jax.errors import UserError
from unloc_jax.pretrained.scenic_config import to_config
from unloc_jax.pretrained.scenic_source import read_config, read_params
from unloc_jax.pretrained.scenic_unloc import to_params, to_reference

REPOSITORY = Path(__file__).parents[2]
OWN = REPOSITORY / "tests" / "goldens" / "scenic"
SHARED = REPOSITORY.parent / "shared" / "goldens"
NAMES = sorted(path.stem for path in OWN.glob("*.npz"))
LEARNED = "tal_emb_transformer_passvideo_learnedpos"
MODELS = [name for name in NAMES if not name.startswith(("head", "module", "trainstep"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_reference_s_numbers(name, capsys):
    assert check_goldens([str(OWN), "--pattern", name]) == 0, capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/goldens beside the repository")
@pytest.mark.parametrize("kind", ["[aht]*", "m[or]*"])  # not pure_*: tests/test_check_goldens.py
def test_all_of_the_reference_s_numbers(kind, capsys):
    assert check_goldens([str(SHARED), "--pattern", kind]) == 0, capsys.readouterr().out


def test_a_wrong_number_is_seen(tmp_path, capsys):
    """In one bias that every output depends on."""
    name = "head_localization_ws0_opc0"
    arrays = dict(np.load(OWN / f"{name}.npz"))
    arrays["params/ClassificationHead_0/conv0/bias"] = arrays["params/ClassificationHead_0/conv0/bias"] + 0.01
    np.savez(tmp_path / f"{name}.npz", **arrays)
    (tmp_path / f"{name}.json").write_text((OWN / f"{name}.json").read_text())
    assert check_goldens([str(tmp_path)]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_not_a_number_is_within_no_tolerance():
    arrays = {"gradnorm/a": np.float64(1.0), "gradproj/a": np.float64(1.0)}
    found = projected_difference({"a": np.array([np.nan])}, arrays, "grad", 1.0)
    assert not found <= 1.0


def golden(name: str) -> Golden:
    return Golden(dict(np.load(OWN / f"{name}.npz")), json.loads((OWN / f"{name}.json").read_text()))


@pytest.mark.parametrize("name", MODELS)
def test_there_and_back(name):
    it = golden(name)
    back = to_reference(it.params, it.config, it.naming)
    assert back.keys() == it.reference_params.keys()
    for key, array in back.items():
        np.testing.assert_array_equal(array.reshape(it.reference_params[key].shape), it.reference_params[key])
    assert it.report == []


@pytest.fixture(scope="module")
def reference():
    """Parameters and config of a model with frames and an fpn."""
    name = "mr_fpn_ws0_gather1_focal_iou"
    return read_params(OWN / f"{name}.npz"), read_config(OWN / f"{name}.json")


def imported(reference, **changes):
    params, config = reference
    ours = to_config(config, params)
    for group, values in changes.items():
        ours[group] = ours[group] | values
    return to_params(params, from_mapping(ours))


def test_other_sizes_are_adapted(reference):
    params, report = imported(reference, data={"num_frames": 32, "crop_size": 48})
    assert params["towers_rgb"]["class_embedding"].shape == (32, 32)
    assert params["towers_rgb"]["position_embedding"].shape == (37, 32)
    ends = params["towers_rgb"]["class_embedding"][[0, -1]]
    np.testing.assert_allclose(ends, reference[0]["video_encoder/class_embedding"][[0, -1]], rtol=1e-6)
    assert [line.partition(": ")[2].partition(" (")[0] for line in report] == [
        "video_encoder/class_embedding",
        "video_encoder/VisionTransformer/positional_embedding",
    ]


def test_a_longer_text_keeps_the_known_positions(reference):
    params, config = reference
    ours = to_config(config, params)
    ours["model"]["text"]["max_tokens"] = 9
    found = to_params(params, from_mapping(ours))[0]["text_tower"]["position_embedding"]
    np.testing.assert_array_equal(found[:6], params["text_encoder/positional_embedding"])
    np.testing.assert_array_equal(found[6:], 0)


def test_learned_positions_are_adapted_over_the_frames_alone():
    params, config = (
        read(OWN / f"{LEARNED}{end}") for read, end in ((read_params, ".npz"), (read_config, ".json"))
    )
    name = "video_text_fusion/video_text_encoder/posembed_input/pos_embedding"  # 16 frames and one text token
    ours = to_config(config, params)
    ours["data"]["num_frames"] = 31
    found = to_params(params, from_mapping(ours))[0]["fusion"]["encoder"]["position_embedding"]
    assert found.shape == (32, 24)
    np.testing.assert_allclose(found[:31:2], params[name][0, :16], rtol=1e-6)
    np.testing.assert_array_equal(found[31], params[name][0, 16])


def test_heads_with_a_dataset_in_their_name(reference):
    params, config = reference
    renamed = {
        name.replace("moment_retrieval_head", "charades_moment_retrieval_head"): x
        for name, x in params.items()
    }
    plain, _ = imported(reference)
    chex.assert_trees_all_equal(plain, imported((renamed, config))[0])


def test_a_class_row_that_does_not_belong_is_an_error(reference):
    params, config = reference
    ours = to_config(config, params)
    ours["model"]["image"]["pooling"] = "mean"
    with pytest.raises(UserError, match="unexpected: video_encoder/class_embedding"):
        to_params(params, from_mapping(ours))


def test_what_does_not_fit_is_listed(reference):
    params, config = reference
    wrong = dict(params)
    del wrong["text_projection/kernel"]
    wrong["video_projection/scale"] = np.ones(24, np.float32)
    wrong["moment_retrieval_head/RegressionHead_0/conv0/kernel"] = np.zeros((5, 24, 24), np.float32)
    with pytest.raises(UserError) as error:
        to_params(wrong, from_mapping(to_config(config, params)))
    message = str(error.value)
    assert "missing: text_projection/kernel" in message
    assert "unexpected: video_projection/scale" in message
    assert "moment_retrieval_head/RegressionHead_0/conv0/kernel (5, 24, 24) vs ours (3, 24, 24)" in message
    assert "\n" not in message


def test_heads_of_other_tasks_are_left_out_and_said(reference):
    params, config = reference
    more = params | {"classification_head/output_projection/kernel": np.zeros((24, 1), np.float32)}
    _, report = to_params(more, from_mapping(to_config(config, params)))
    assert report == ["left out, the reference does not use it: classification_head/output_projection/kernel"]


def test_parameters_are_float32_and_complete(reference):
    params, _ = imported(reference)
    leaves = jax.tree.leaves(params)
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert sum(leaf.size for leaf in leaves) == sum(array.size for array in reference[0].values())


def test_the_config_survives_json(reference):
    params, config = reference
    ours = from_mapping(to_config(config, params))
    assert from_mapping(json.loads(to_json(ours))) == ours
