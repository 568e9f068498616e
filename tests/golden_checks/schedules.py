"""Learning rates over the steps of a stage."""

import dataclasses
import math

import numpy as np

from tests.golden_checks.case import Case, Checked, difference
from unloc_jax.config import StageConfig
from unloc_jax.training.optimizer import stage_schedule

_ARGUMENTS = {
    "constant": {"base_learning_rate"},
    "linear_warmup": {"warmup_steps", "warmup_alpha"},
    "piecewise_constant": {"decay_events", "decay_factors"},
    "exponential_decay": {"decay_steps", "decay_rate", "staircase"},
    "cosine_decay": {"steps_per_cycle"},
}


def check(case: Case) -> Checked:
    given, steps = case.arguments, case.inputs["steps"]
    factors = {factor.strip() for factor in given["factors"].split("*")}
    unknown = sorted(factors - _ARGUMENTS.keys())
    if unknown or len(factors - {"constant", "linear_warmup"}) > 1:
        raise ValueError(f"the product has no such schedule: {given['factors']}")
    # A config may hold the length of a cycle and use no cosine.
    case.refuse_other_arguments(
        {"factors", "learning_rate_schedule", "steps_per_cycle"}.union(
            *(_ARGUMENTS[name] for name in factors)
        )
    )
    stage = _stage(given, factors)
    notes = []
    if stage.schedule == "cosine" and (steps > stage.steps).any():
        notes.append("the reference's cosine starts again after its last step: the check folds the steps")
        cycle = stage.steps - math.floor(stage.warmup_steps)
        after = np.maximum(steps - stage.warmup_steps, 0.0)
        steps = np.where(after > 0, stage.warmup_steps + after % cycle, steps)
    ours = np.asarray(stage_schedule(stage)(steps))
    alpha = given.get("warmup_alpha", 0.0) if stage.warmup_steps else 0.0
    if alpha:
        if stage.schedule == "cosine":
            raise ValueError("the check knows no warmup_alpha with a cosine, which begins after the warm-up")
        notes.append("warmup_alpha is not a setting of ours: composed of the rates with and without warm-up")
        whole = np.asarray(stage_schedule(dataclasses.replace(stage, warmup_steps=0.0))(steps))
        ours = alpha * whole + (1.0 - alpha) * ours
    theirs = case.outputs["lr"]
    return Checked(difference(ours / stage.learning_rate, theirs / stage.learning_rate), tuple(notes))


def _stage(given: dict, factors: set[str]) -> StageConfig:
    stage = StageConfig(
        steps=int(given.get("steps_per_cycle", 0)),
        learning_rate=given["base_learning_rate"] if "constant" in factors else 1.0,
        warmup_steps=given["warmup_steps"] if "linear_warmup" in factors else 0.0,
        schedule="constant",
    )
    if "piecewise_constant" in factors:
        return dataclasses.replace(
            stage,
            schedule="piecewise",
            decay_steps=tuple(given["decay_events"]),
            decay_factors=tuple(given["decay_factors"]),
        )
    if "exponential_decay" in factors:
        return dataclasses.replace(
            stage,
            schedule="exponential",
            decay_rate=given["decay_rate"],
            decay_every=given["decay_steps"],
            staircase=given.get("staircase", False),
        )
    return dataclasses.replace(stage, schedule="cosine") if "cosine_decay" in factors else stage
