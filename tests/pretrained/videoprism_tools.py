"""Small random VideoPrisms in the layout of the published files, and a small vocabulary."""

from pathlib import Path

import numpy as np

from unloc_jax.model.videoprism import VideoPrismConfig, VideoPrismTextConfig
from unloc_jax.pretrained import videoprism

GOLDENS = Path(__file__).parents[1] / "goldens" / "videoprism"  # of the original, with layers of 32 numbers
SIZES = VideoPrismConfig(
    patch_size=4,
    num_frames=5,
    grid=(4, 4),
    width=24,
    num_heads=3,
    mlp_dim=40,
    spatial_layers=3,
    temporal_layers=1,
)
TEXT_SIZES = VideoPrismConfig(
    patch_size=3, num_frames=3, grid=(2, 2), width=12, num_heads=2, mlp_dim=20, spatial_layers=1, temporal_layers=2,
    auxiliary_layers=3, pooler_width=48, logit_cap=20.0, text=VideoPrismTextConfig(70, 4, 44),
)  # fmt: skip


def tensors(config: VideoPrismConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tensors by their published names."""
    made = {}
    rng = np.random.default_rng(seed)
    for of_one in videoprism._tensors(config, "vision_encoder/" if config.pooler_width else "").values():
        made |= {
            f"params/{name}": rng.normal(0, 0.1, of_one.shape).astype(np.float32) for name in of_one.published
        }
    return made


def write(file: Path, arrays: dict[str, np.ndarray]) -> Path:
    np.savez(file, **arrays)
    return file


def vocabulary(folder: Path) -> Path:
    """A file of SentencePiece's, trained on a few sentences."""
    import sentencepiece

    words = ("red", "blue", "green", "circle", "square", "moves", "left", "right", "grows", "shrinks")
    sentences = [f"a {a} {b} {c}." for a in words[:3] for b in words[3:5] for c in words[5:]]
    prefix = folder / "sentencepiece"
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences),
        model_prefix=str(prefix),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return prefix.with_suffix(".model")
