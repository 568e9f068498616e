from typing import Any

import jax
import numpy as np
import pytest

from tests.tiny import SOUND, random_batch, tiny_task
from unloc_jax.aot.executed_flops import product_flops
from unloc_jax.config import from_mapping
from unloc_jax.errors import UserError
from unloc_jax.tasks import TASKS
from unloc_jax.tasks.parameters import abstract_params
from unloc_jax.training.flops import chip, peak_flops, train_step_flops, train_step_flops_by_module
from unloc_jax.training.step import Loss

# Wide enough that what is not a product of matrices weighs little; XLA counts a loop's body once, so nothing loops.
WIDE: dict[str, Any] = {
    "image": {"width": 256, "num_layers": 1},
    "text": {"width": 256, "num_layers": 1},
    "fusion": {"width": 256, "num_layers": 2, "mlp_dim": 512},
    "unroll": 2,
}
FROZEN = {"modalities": {"rgb": {"freeze": True}}, "text": WIDE["text"] | {"freeze": True}}


def counted_by_xla(stage: str, task: str, **changes: Any) -> tuple[float, float]:
    """(XLA's count, ours) of the loss and its gradient."""
    made = tiny_task(task, **changes)
    loss = Loss({"a": made}, {"a": 1.0}, stage)
    gradient = jax.jit(lambda params, batch, rng: jax.value_and_grad(loss, has_aux=True)(params, batch, rng))
    batch = {"a": random_batch(made.config)}
    lowered = gradient.lower(abstract_params(made), batch, jax.random.key(0))
    return lowered.cost_analysis()["flops"], train_step_flops(made.config, len(made.classes) or None, stage)


def counted_in_the_program(stage: str, task: str, **changes: Any) -> tuple[float, float]:
    """(what `unloc compile` counts in the traced program, what MFU is computed from) of the loss and its gradient."""
    made = tiny_task(task, **changes)
    gradient = jax.value_and_grad(Loss({"a": made}, {"a": 1.0}, stage), has_aux=True)
    traced = jax.make_jaxpr(gradient)(
        abstract_params(made), {"a": random_batch(made.config)}, jax.random.key(0)
    )
    return product_flops(traced.jaxpr), train_step_flops(made.config, len(made.classes) or None, stage)


@pytest.mark.parametrize("remat", ["none", "full"])
@pytest.mark.parametrize("task", TASKS)
def test_one_counter_checks_the_other(task, remat):
    """Of every task; what the backward pass computes again is executed, and not needed."""
    model = WIDE | {"remat": remat}
    if not TASKS[task].has_boundaries:  # a program has no coarser levels and boundaries once it is compiled
        model |= {"pyramid": {"type": "none"}, "head": {"type": "linear"}}
    executed, needed = counted_in_the_program("train", task, model=model)
    if remat == "none":
        np.testing.assert_allclose(executed, needed, rtol=0.02)
    else:
        assert 1.15 * needed < executed < 1.35 * needed


@pytest.mark.parametrize("modality", [{}, {"freeze": True}, {"projection_width": 64}])
def test_of_a_tower_of_sound(modality):
    """Spectrograms are executed and not counted: they are little beside it."""
    audio = SOUND["audio"] | {"width": 256, "num_heads": 4, "mlp_dim": 512}
    modalities = {"audio": {"encoder": "audio", **modality}}
    model = WIDE | {"modalities": modalities, "audio": audio}
    executed, needed = counted_in_the_program("train", "moment_retrieval", model=model)
    np.testing.assert_allclose(executed, needed, rtol=0.02)
    made = train_step_flops_by_module(tiny_task(model=model).config, None)
    assert made["sound tower"].forward > 0 and made["image tower"].forward == 0


@pytest.fixture
def undisturbed_programs(request):
    """Skips under --perturb, whose operations XLA counts as well."""
    if request.config.getoption("--perturb"):
        pytest.skip("the disturbance is counted, too")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("moment_retrieval", {"loss": {"negatives": "batch"}, "model": WIDE | FROZEN}),
        ("moment_retrieval", {"model": WIDE | {"fusion": WIDE["fusion"] | {"all_text_tokens": True}}}),
        (
            "temporal_action_localization",
            {"model": WIDE | {"pyramid": {"type": "fpn", "num_levels": 2, "downsampling": "strided_conv"}}},
        ),
        ("temporal_action_localization", {"model": WIDE | {"head": {"offsets_per_text": False}}}),
        ("temporal_action_localization", {"model": WIDE | {"fusion": WIDE["fusion"] | {"type": "late"}}}),
        ("action_segmentation", {"model": WIDE | {"pyramid": {"type": "none"}, "head": {"type": "linear"}}}),
        ("video_text_contrastive", {}),
    ],
)
@pytest.mark.usefixtures("undisturbed_programs")
def test_of_training_against_xla(task, changes):
    xla, ours = counted_by_xla("train", task, **({"model": WIDE} | changes))
    np.testing.assert_allclose(ours, xla, rtol=0.04)


@pytest.mark.slow
@pytest.mark.usefixtures("undisturbed_programs")
def test_of_the_contrastive_stage_against_xla():
    xla, ours = counted_by_xla("contrastive", "moment_retrieval", model=WIDE, contrastive={"steps": 1})
    np.testing.assert_allclose(ours, xla, rtol=0.04)


def test_of_a_frame_against_a_published_count():
    """torchvision gives 17.56 G multiply-adds for vit_b_16 at 224 pixels, 0.001 of them in its classifier."""
    config = from_mapping({"batch_size": 3, "data": {"num_frames": 5}})
    tower = train_step_flops_by_module(config, None)["image tower"]
    np.testing.assert_allclose(tower.forward / 15, 2 * 17.56e9, rtol=1e-3)
    # Three times as much with gradients, but none of the pixels: 0.1 G of the patches are only doubled.
    np.testing.assert_allclose(tower.step / 15, 2 * (3 * 17.56e9 - 196 * 768 * 768), rtol=1e-3)


def test_the_vocabulary_of_a_frozen_tower_costs_a_step_nothing():
    of = lambda **text: train_step_flops_by_module(
        from_mapping({"task": "temporal_action_localization", "model": {"text": text}}), 200
    )["text tower"]
    # 200 texts of 32 tokens through 12 layers of 12 · 512² numbers, 2 FLOPs each; attention is 4 % beside it.
    np.testing.assert_allclose(of().forward, 200 * 32 * 12 * 24 * 512**2, rtol=0.05)
    assert of(freeze=True).step == 0


def test_a_vocabulary_has_a_size():
    config = from_mapping({"task": "temporal_action_localization"})
    assert train_step_flops(config, 200) > train_step_flops(config, 100)
    with pytest.raises(UserError, match="the number of classes"):
        train_step_flops(config, None)


@pytest.mark.parametrize(
    ("kind", "name", "tera"),
    [
        ("TPU v4", "TPU v4", 275),
        ("TPU v5 lite", "TPU v5e", 197),
        ("TPU v5", "TPU v5p", 459),
        ("TPU v6 lite", "TPU v6e", 918),
        ("NVIDIA A100-SXM4-40GB", "A100 40 GB", 312),
        ("NVIDIA H100 80GB HBM3", "H100 SXM", 989),
        ("NVIDIA H200", "H200", 989),
    ],
)
def test_chips_by_the_names_that_jax_gives_them(kind, name, tera):
    found = chip(kind)
    assert found is not None and (found.name, peak_flops(kind)) == (name, tera * 1e12)


def test_a_chip_that_is_not_known():
    assert chip("cpu") is None and peak_flops("cpu") is None
