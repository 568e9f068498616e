"""The smallest model with all its parts, and random batches for it."""

from typing import Any

import jax
import ml_collections
import numpy as np

from unloc_jax.batch import Batch
from unloc_jax.config import Config, from_mapping
from unloc_jax.dataset import DatasetMetadata
from unloc_jax.tasks import Task, make_task
from unloc_jax.tasks.parameters import abstract_params
from unloc_jax.text import tokenize

CLASSES = ("pole vault", "long jump", "high jump")
# Towers of VideoPrism, 2 windows of 4 of the 8 frames.
VIDEOPRISM: dict[str, Any] = {
    "modalities": {"rgb": {"encoder": "videoprism"}},
    "text": {"encoder": "videoprism", "max_tokens": 8},
    "videoprism": {
        "patch_size": 8, "num_frames": 4, "grid": 2, "width": 16, "num_heads": 2, "mlp_dim": 32, "spatial_layers": 2,
        "temporal_layers": 1, "auxiliary_layers": 1, "pooler_width": 32, "text_layers": 1, "text_mlp_dim": 24,
        "vocabulary_size": 60,
    },
}  # fmt: skip
# A tower of sound: 50 ms of 2 kHz around each place make 8 frames of 8 bands, 4 patches.
SOUND: dict[str, Any] = {
    "modalities": {"audio": {"encoder": "audio"}},
    "audio": {
        "sample_rate": 2000, "window_s": 0.05, "frame_s": 0.012, "hop_s": 0.005, "num_mels": 8, "patch_mels": 4,
        "patch_frames": 4, "width": 16, "num_layers": 1, "num_heads": 2, "mlp_dim": 32,
    },
}  # fmt: skip
QUERIES = ("a man runs", "the dog jumps over it", "someone waves", "rain falls on a roof", "nothing moves")


def tiny_config(task: str = "moment_retrieval", **changes: Any) -> Config:
    """8 frames of 16×16 pixels, 3 pyramid levels, width 16; `changes` are nested dictionaries."""
    config = ml_collections.ConfigDict()
    config.task = task
    config.batch_size = 2
    config.data = {"num_frames": 8, "crop_size": 16, "max_segments": 3, "max_queries": 3}
    config.model = {
        "image": {"width": 16, "num_layers": 1, "num_heads": 2, "patch_size": 8},
        "text": {"width": 16, "num_layers": 1, "num_heads": 2, "max_tokens": 8},
        "fusion": {"width": 16, "num_layers": 1, "num_heads": 2, "mlp_dim": 32},
        "pyramid": {"num_levels": 3},
        "head": {"num_conv_layers": 1},
        "dtype": "float32",
    }
    config.evaluation = {"batch_size": 2, "max_detections": 5}
    config.update(changes)
    return from_mapping(config.to_dict())


def tiny_task(task: str = "moment_retrieval", **changes: Any) -> Task:
    return make_task(tiny_config(task, **changes), tiny_metadata())


def tiny_metadata() -> DatasetMetadata:
    return DatasetMetadata("tiny", 5.0, 16, list(CLASSES), [], "tiny")


def random_params(task: Task, seed: int = 0) -> Any:
    """Parameters of which none is trivial."""
    return random_tree(abstract_params(task), seed)


def random_tree(shapes: Any, seed: int = 0) -> Any:
    """Numbers for a tree of shapes; a bias of 0 or a scale of 1 would hide mistakes, and nothing is compiled."""
    rng = np.random.default_rng(seed)
    centre = {"scale": 1.0, "bias": 0.2}

    def of_leaf(path: tuple, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        kind = path[-1].key.partition("_")[0]
        return rng.normal(centre.get(kind, 0.0), 0.2, leaf.shape).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(of_leaf, shapes)


def random_batch(config: Config, seed: int = 0, videos: int = 2) -> Batch:
    """All frames, texts, segments and rows are real; each query has one segment, classes are drawn.

    Sound is missing at the last places of the last video.
    """
    rng = np.random.default_rng(seed)
    data, max_tokens = config.data, config.model.text.max_tokens
    shape = (videos, data.max_segments)
    if not config.with_vocabulary:
        texts = [rng.choice(QUERIES, data.max_queries, replace=False).tolist() for _ in range(videos)]
        tokens = np.stack([tokenize(of_video, max_tokens) for of_video in texts])
        if config.model.text.encoder == "videoprism":  # any word pieces, and the place of the class token
            tokens %= config.model.videoprism["vocabulary_size"] + 1
            tokens[..., -1] = 0
        segment_text = np.tile(np.arange(data.max_segments, dtype=np.int32), (videos, 1))
    else:
        tokens = np.zeros((videos, 0, max_tokens), np.int32)
        segment_text = rng.integers(0, len(CLASSES), shape).astype(np.int32)
    places = (videos, data.num_frames)
    sounds, masks = {}, {}
    if config.model.reads_sound:
        masks["audio"] = np.ones(places, bool)
        masks["audio"][-1, -2:] = False
        samples = rng.normal(0, 3000, (*places, config.model.audio.window_samples))
        sounds["audio"] = (samples * masks["audio"][..., None]).astype(np.int16)
    has_frames = config.model.reads_frames or not sounds
    frames = (
        rng.integers(0, 256, (*places, data.crop_size, data.crop_size, 3), np.uint8) if has_frames else None
    )
    return Batch(
        frames=frames,
        frame_mask=np.ones(places, bool),
        text_tokens=tokens,
        text_mask=np.ones(tokens.shape[:2], bool),
        segments=np.sort(rng.uniform(0, data.num_frames - 1, (*shape, 2)), axis=-1).astype(np.float32),
        segment_text=segment_text,
        span_s=np.tile(np.array([0.0, data.num_frames - 1], np.float32), (videos, 1)),
        example_mask=np.ones(videos, bool),
        features=sounds,
        input_masks=masks,
    )
