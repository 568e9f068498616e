"""Find moments in video with words: UnLoc (ICCV 2023, arXiv 2308.11062) in JAX/Flax.

`unloc_jax.load` is what most programs need; see docs/python.md.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unloc_jax.inference.load import load
    from unloc_jax.inference.localizer import Localizer
    from unloc_jax.inference.zeroshot import ZeroShotLocalizer
    from unloc_jax.programs import (
        clip_settings,
        diagnose,
        evaluate,
        measure,
        overrides_of,
        train,
        videoprism_settings,
    )

__all__ = [
    "Localizer",
    "ZeroShotLocalizer",
    "__version__",
    "clip_settings",
    "diagnose",
    "evaluate",
    "load",
    "measure",
    "overrides_of",
    "train",
    "videoprism_settings",
]
__version__ = "0.1.0"

# Found when they are asked for: `import unloc_jax` and `unloc --help` do not wait for JAX.
_PLACES = {
    "load": "inference.load",
    "Localizer": "inference.localizer",
    "ZeroShotLocalizer": "inference.zeroshot",
    **dict.fromkeys(
        ("clip_settings", "videoprism_settings", "train", "overrides_of", "evaluate", "measure", "diagnose"),
        "programs",
    ),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"unloc_jax.{_PLACES[name]}"), name)
