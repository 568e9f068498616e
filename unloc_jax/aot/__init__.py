"""Ahead-of-time compilation of a config's training step for devices that are not attached.

`topology` names the devices, `step` compiles the program, `hlo` and `collectives` parse it, `report` lists its costs.
"""
