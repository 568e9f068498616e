"""Reading: TFRecord shards of any format → records → batches. Only `input_pipeline` imports TensorFlow."""
