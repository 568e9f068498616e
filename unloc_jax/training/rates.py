"""The learning rates of a step, for the log."""

from collections.abc import Callable

from unloc_jax.config import Config, StageConfig
from unloc_jax.training.optimizer import stage_schedule


def learning_rates(config: Config) -> Callable[[int], dict[str, float]]:
    """Step (from 0) → "learning_rate", and "learning_rate/PREFIX" for every prefix of config.*.learning_rates."""
    prefixes = sorted({*config.pretrain.learning_rates, *config.train.learning_rates})

    def at(step: int) -> dict[str, float]:
        in_pretraining = step < config.pretrain.steps
        stage = config.pretrain if in_pretraining else config.train
        since = step if in_pretraining else step - config.pretrain.steps
        rates = {"learning_rate": stage.learning_rate}
        rates |= {f"learning_rate/{prefix}": _base_rate(stage, prefix) for prefix in prefixes}
        return {name: float(stage_schedule(stage, base)(since)) for name, base in rates.items()}

    return at


def _base_rate(stage: StageConfig, name: str) -> float:
    """Of the longest prefix of the stage that fits, as the optimizer chooses."""
    fitting = [prefix for prefix in stage.learning_rates if name.startswith(prefix)]
    return stage.learning_rates[max(fitting, key=len)] if fitting else stage.learning_rate
