"""Starts training on this machine, TPU VMs, GKE, SLURM or SkyPilot (docs/launch.md).

The launchers do not import JAX; the programs that they start do.
"""
