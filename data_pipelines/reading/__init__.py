"""Reads TFRecord shards of any format as records and batches. Only `input_pipeline` imports TensorFlow."""
