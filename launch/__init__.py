"""Starting training somewhere: this machine, TPU VMs, GKE, SLURM, SkyPilot (docs/launch.md).

Nothing here imports JAX: what is started does.
"""
