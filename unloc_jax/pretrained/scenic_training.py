"""Translates optimizer and learning rates of a Scenic config to our schema."""

import math
from typing import Any

from unloc_jax.config import Config
from unloc_jax.pretrained.scenic_settings import Settings
from unloc_jax.pretrained.scenic_unloc import Leaf

_DEFAULT_STEPS = Config().train.steps
_DECAYS = {
    "cosine_decay": "cosine",
    "piecewise_constant": "piecewise",
    "exponential_decay": "exponential",
}


def optimizer_settings(root: Settings) -> dict[str, Any]:
    """Returns config.optimizer; defaults are those of optax's optimizer of that name."""
    group = root.group("optimizer_configs")
    name = group.get("optimizer", root.get("optimizer"))
    ours: dict[str, Any] = {"max_grad_norm": root.get("max_grad_norm")}
    if ours["max_grad_norm"] is not None:
        ours["max_grad_norm"] = float(ours["max_grad_norm"])
    if name == "sgd":
        ours |= {"momentum": float(group.get("momentum", 0.0)), "weight_decay": 0.0}
        group.only("nesterov", False, why="cannot be expressed")
    elif name in ("adam", "adamw"):
        ours |= {"b1": float(group.get("b1", 0.9)), "b2": float(group.get("b2", 0.999))}
        ours["weight_decay"] = 1e-4 if name == "adamw" else 0.0
        group.only("eps", 1e-8, why="cannot be expressed, only 1e-8")
    else:
        group.refuse("optimizer", "cannot be expressed; sgd, adam and adamw can")
    ours["name"] = name
    if "weight_decay" in group:
        ours["weight_decay"] = float(group.get("weight_decay"))
    group.close("skip_scale_and_bias_regularization")
    return ours


def stage_settings(root: Settings) -> dict[str, Any]:
    """Returns config.train except for `learning_rates`."""
    group = root.group("lr_configs")
    steps = root.get("num_training_steps") or group.get("total_steps") or group.get("steps_per_cycle")
    ours: dict[str, Any] = {"learning_rate": float(group.need("base_learning_rate")), "schedule": "constant"}
    if "learning_rate_schedule" in group:
        ours |= _schedule(group, steps)
    if not steps:
        # The config gives no number: at least as many as its schedule mentions.
        last = max([0, *ours.get("decay_steps", []), math.ceil(ours.get("warmup_steps", 0))])
        steps = max(_DEFAULT_STEPS, last + 1)
    return ours | {"steps": int(steps)}


def _schedule(group: Settings, steps: int | None) -> dict[str, Any]:
    """Returns warm-up and decay; `steps` is the length of the stage, None if the reference does not give it."""
    group.only("learning_rate_schedule", "compound", why="is not known here")
    factors = [factor.strip() for factor in group.need("factors").split("*")]
    decays = [factor for factor in factors if factor not in ("constant", "linear_warmup")]
    if "constant" not in factors or len(decays) > 1 or not set(decays) <= _DECAYS.keys():
        group.refuse(
            "factors",
            f"cannot be expressed: besides constant and linear_warmup there may be one of {', '.join(_DECAYS)}",
        )
    ours: dict[str, Any] = {}
    if "linear_warmup" in factors:
        group.only("warmup_alpha", 0, why="cannot be expressed: the warm-up begins at 0")
        ours["warmup_steps"] = float(group.need("warmup_steps"))
    for decay in decays:
        ours |= {"schedule": _DECAYS[decay], **_decay(decay, group, steps)}
    return ours


def _decay(kind: str, group: Settings, steps: int | None) -> dict[str, Any]:
    if kind == "exponential_decay":
        return {
            "decay_rate": float(group.need("decay_rate")),
            "decay_every": int(group.need("decay_steps")),
            "staircase": bool(group.get("staircase", False)),
        }
    if kind == "piecewise_constant":
        last = math.inf if steps is None else steps
        events = zip(group.need("decay_events"), group.need("decay_factors"))
        kept = [(int(step), float(factor)) for step, factor in events if step < last]
        return {"decay_steps": [step for step, _ in kept], "decay_factors": [factor for _, factor in kept]}
    for key, only in {"t_mul": 1, "m_mul": 1, "alpha": 0, "start_decay_step": 0}.items():
        group.only(key, only, why=f"cannot be expressed, only {only}")
    group.only("steps_per_cycle", steps, why="cannot be expressed: the cycle must be all of training")
    if "linear_warmup" not in group.get("factors") and group.get("warmup_steps", 0):
        group.refuse("warmup_steps", "without linear_warmup cannot be expressed")
    return {}


def learning_rates(root: Settings, base: float, table: list[Leaf]) -> dict[str, float]:
    """Translates layer_prefix_to_base_lrs to prefixes of our names; in the reference the first matching prefix wins."""
    prefixes = {str(key): float(rate) for key, rate in sorted(root.get("layer_prefix_to_base_lrs").items())}
    rates: dict[tuple[str, ...], float] = {}
    for leaf in table:
        rate = next((rate for prefix, rate in prefixes.items() if leaf.reference.startswith(prefix)), base)
        if rates.setdefault(leaf.path, rate) != rate:
            root.refuse(
                "layer_prefix_to_base_lrs",
                f"has different rates within {'/'.join(leaf.path)}, which is one array here",
            )
    return _by_prefix(rates, (), base)


def _by_prefix(
    rates: dict[tuple[str, ...], float], at: tuple[str, ...], inherited: float
) -> dict[str, float]:
    """Returns the fewest prefixes that give every parameter below `at` its rate."""
    below = {path: rate for path, rate in rates.items() if path[: len(at)] == at}
    if at and len(set(below.values())) == 1:
        rate = next(iter(below.values()))
        name = "/".join(at)
        others = ["/".join(path) for path in rates if path not in below]
        if any(other.startswith(name) for other in others):
            name += "/"  # so that "head" does not match "headless/kernel" as well
        return {} if rate == inherited else {name: rate}
    found: dict[str, float] = {}
    for child in dict.fromkeys(path[: len(at) + 1] for path in below):
        found |= _by_prefix(rates, child, inherited)
    return found
