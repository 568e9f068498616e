"""The parts of a synthetic video: its events (scene), pixels (render) and sentences (language)."""
