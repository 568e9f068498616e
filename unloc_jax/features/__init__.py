"""Features of video files: their computation, and their use as inputs of a model trained on such features."""
