"""What a family's image tower and text tower are, beyond the sizes that our settings have."""

import dataclasses

# CLIP's preprocessing runs on the device, so that frames are transferred as uint8.
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True)
class ImageForm:
    """Form of an image tower; the defaults are CLIP's.

    Attributes:
      mean, std: Per channel, of pixels in [0, 1].
      epsilon: Of the LayerNorms.
      patch_bias: The patch embedding has a bias.
      norm_in: LayerNorm before the layers.
      mlp_dim: Of the layers; 0 = four times the width.
      rotary_grid: Besides the trained positions, queries and keys of patches are rotated by their row and column, which
        are counted on a grid of this side (`model.rotary`); 0 = they are not.
      pooler_heads, pooler_mlp_dim: Of the attention pooler whose output represents a picture
        (`model.attention_pooler`); 0 = there is none, and `ImageTowerConfig.pooling` names what does. With a pooler
        `pooling` tells only whether there is a class token ("token").
    """

    mean: tuple[float, ...] = PIXEL_MEAN
    std: tuple[float, ...] = PIXEL_STD
    epsilon: float = 1e-5
    patch_bias: bool = False
    norm_in: bool = True
    mlp_dim: int = 0
    rotary_grid: int = 0
    pooler_heads: int = 0
    pooler_mlp_dim: int = 0


@dataclasses.dataclass(frozen=True)
class TextForm:
    """Form of a text tower; the defaults are CLIP's.

    Attributes:
      epsilon: Of the LayerNorms.
      mlp_dim: Of the layers; 0 = four times the width.
      causal: A word piece sees only those before it.
      pools_last: The last position represents a text, whatever is there; `TextTowerConfig.pooling` is not used.
    """

    epsilon: float = 1e-5
    mlp_dim: int = 0
    causal: bool = True
    pools_last: bool = False


CLIP_IMAGE = ImageForm()
CLIP_TEXT = TextForm()
