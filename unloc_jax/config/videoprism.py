"""Sizes of VideoPrism's towers, by name or by numbers."""

import dataclasses
from typing import Annotated, Literal

from unloc_jax.config.bounds import Bounds

_SHARED = {"patch_size": 18, "grid": 16, "temporal_layers": 4, "auxiliary_layers": 2, "text_layers": 12,
           "vocabulary_size": 32_000}  # fmt: skip
_BASE = {"num_frames": 16, "width": 768, "num_heads": 12, "mlp_dim": 3072, "spatial_layers": 12,
         "pooler_width": 3072, "text_mlp_dim": 3072}  # fmt: skip
_LARGE = {"num_frames": 8, "width": 1024, "num_heads": 16, "mlp_dim": 4096, "spatial_layers": 24,
          "pooler_width": 4096, "text_mlp_dim": 4096}  # fmt: skip
SIZES: dict[str, dict[str, int]] = {"base": _SHARED | _BASE, "large": _SHARED | _LARGE}
"""The published models' sizes, by the names of settings."""

Given = Annotated[int | None, Bounds(at_least=1)]


@dataclasses.dataclass(frozen=True)
class VideoPrismTowerConfig:
    """VideoPrism's video and text towers. A size that is None is that of the published model `size`."""

    size: Literal["base", "large"] = "base"
    pooling: Literal["attention", "mean"] = "attention"
    """Represents a frame: the video–text model's attention pooler, after its layers over all patches of a window; or
    "mean", the mean of the video encoder's patches, as in the models without texts."""
    window: Given = None
    """Frames that are seen together; None = as many as the trained table of times. Fewer frames than that are one
    window, and the table is interpolated."""
    overlap: Annotated[int, Bounds(at_least=0)] = 0
    """Frames that a window shares with the next one; the features of `unloc features` share half a window."""
    patch_size: Given = None
    num_frames: Given = None
    """Length of the trained table of times."""
    grid: Given = None
    """Rows, and columns, of the trained table of patches."""
    width: Given = None
    num_heads: Given = None
    mlp_dim: Given = None
    spatial_layers: Given = None
    temporal_layers: Given = None
    auxiliary_layers: Annotated[int | None, Bounds(at_least=0)] = None
    """Layers before the pooler, over all patches of a window."""
    pooler_width: Given = None
    text_layers: Given = None
    text_mlp_dim: Given = None
    vocabulary_size: Given = None
    """Word pieces of the text tower."""
    logit_cap: float = 50.0
    """Attention logits are kept below it by tanh; 0 = they are not."""

    def __getitem__(self, name: str) -> int:
        """Returns a size: the given one, or that of the published model."""
        given: int | None = getattr(self, name)
        return SIZES[self.size][name] if given is None else given

    def window_of(self, num_frames: int) -> int:
        """Returns the frames of a window over T frames."""
        return min(self.window or self["num_frames"], num_frames)
