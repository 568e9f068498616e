"""The parts of a synthetic video: what happens (scene), what one sees (render), what one says (language)."""
