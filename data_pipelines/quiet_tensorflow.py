"""TensorFlow as a data tool: no start-up messages, no accelerator (those belong to JAX)."""

import os
from types import ModuleType


def import_tensorflow() -> ModuleType:
    """Imports TensorFlow quietly and hides GPUs from it. Call this before anything else imports it."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Its notice is printed whatever the log level; oneDNN speeds up layers, which are not used here.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import absl.logging
    import tensorflow as tf

    absl.logging.set_verbosity(absl.logging.ERROR)
    tf.config.set_visible_devices([], "GPU")
    return tf
