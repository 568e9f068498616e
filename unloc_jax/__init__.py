"""Find moments in video with words: UnLoc (ICCV 2023, arXiv 2308.11062) in JAX/Flax."""

__version__ = "0.1.0"
