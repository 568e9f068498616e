"""The sub-commands of `unloc`, one file each: `add(commands)` registers the flags and the function to run.

Commands import their dependencies when they run, so that `unloc --help` is fast and prediction needs no TensorFlow.
"""
