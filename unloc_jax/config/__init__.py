"""The schema that a config is checked against, and the defaults of every key.

A config file returns an ml_collections.ConfigDict with the keys it wants to change; `load` merges it and the
command line's overrides into `Config` and refuses unknown keys, wrong types and impossible values before
anything starts.
"""

from unloc_jax.config.audio import AudioAugmentationConfig, AudioTowerConfig
from unloc_jax.config.data import AugmentationConfig, DataConfig, MediaSequenceConfig
from unloc_jax.config.loading import find_file, from_json, from_mapping, load, to_json, with_overrides
from unloc_jax.config.paths import with_absolute_paths
from unloc_jax.config.schema import (
    Activation,
    CheckpointConfig,
    Config,
    EvaluationConfig,
    FusionConfig,
    HeadConfig,
    ImageTowerConfig,
    LossConfig,
    MeshConfig,
    ModalityConfig,
    ModelConfig,
    OptimizerConfig,
    PyramidConfig,
    StageConfig,
    TaskConfig,
    TextTowerConfig,
    WandbConfig,
)
from unloc_jax.config.videoprism import VideoPrismTowerConfig

__all__ = [
    "Activation",
    "AudioAugmentationConfig",
    "AudioTowerConfig",
    "AugmentationConfig",
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "EvaluationConfig",
    "FusionConfig",
    "HeadConfig",
    "ImageTowerConfig",
    "LossConfig",
    "MediaSequenceConfig",
    "MeshConfig",
    "ModalityConfig",
    "ModelConfig",
    "OptimizerConfig",
    "PyramidConfig",
    "StageConfig",
    "TaskConfig",
    "TextTowerConfig",
    "VideoPrismTowerConfig",
    "WandbConfig",
    "find_file",
    "from_json",
    "from_mapping",
    "load",
    "to_json",
    "with_absolute_paths",
    "with_overrides",
]
