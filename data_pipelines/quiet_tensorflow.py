"""Imports TensorFlow and TensorFlow Datasets as data tools: without start-up messages and without accelerators."""

import os
from types import ModuleType

from unloc_jax.errors import UserError


def import_tensorflow() -> ModuleType:
    """Imports TensorFlow quietly and hides GPUs from it; must run before any other import of it.

    Raises:
      ModuleNotFoundError: it is not installed.
    """
    _hush()
    import absl.logging
    import tensorflow as tf

    absl.logging.set_verbosity(absl.logging.ERROR)
    tf.config.set_visible_devices([], "GPU")
    return tf


def import_tfds() -> ModuleType:
    """Imports TensorFlow Datasets, which needs TensorFlow itself only to read with tf.data.

    Raises:
      ModuleNotFoundError: it is not installed.
      UserError: its packages do not fit together.
    """
    _hush()
    # tensorflow-metadata 1.21 is made by a later protobuf than it asks pip for, and Colab has an earlier one.
    # Of what is used here, both write the same bytes.
    os.environ.setdefault("TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "true")
    try:
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import writer  # noqa: F401  imports what it needs
        from tensorflow_datasets.proto import tf_example_pb2  # noqa: F401
    except ModuleNotFoundError:
        raise
    except Exception as error:  # whatever its packages raise when they do not fit together
        raise UserError(
            f"TensorFlow Datasets cannot be imported ({type(error).__name__}: {error}). Its packages do not fit "
            "together: pip install --upgrade tensorflow-datasets tensorflow-metadata protobuf"
        ) from error
    return tfds


def _hush() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow prints a oneDNN notice at any log level; oneDNN accelerates layers, which are not used here.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
