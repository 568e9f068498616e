"""CLIP features of video files: computing them, and giving them to a model that was trained on such features."""
