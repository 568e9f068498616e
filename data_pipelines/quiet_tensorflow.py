"""Imports TensorFlow as a data tool: without start-up messages and without accelerators, which JAX uses."""

import os
from types import ModuleType


def import_tensorflow() -> ModuleType:
    """Imports TensorFlow quietly and hides GPUs from it; must run before any other import of it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow prints a oneDNN notice at any log level; oneDNN accelerates layers, which are not used here.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import absl.logging
    import tensorflow as tf

    absl.logging.set_verbosity(absl.logging.ERROR)
    tf.config.set_visible_devices([], "GPU")
    return tf
