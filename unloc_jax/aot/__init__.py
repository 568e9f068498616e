"""Ahead of time: the training step of a config, compiled for devices that are not here.

`topology` names the devices, `step` makes the program, `hlo` and `collectives` read it, `report` says what it costs.
"""
