"""Sweeps: a list of config changes × seeds, trained and evaluated, as a table and a plot (docs/sweeps.md)."""
