"""The sub-commands of `unloc`: one file each, with `add(commands)`, which registers its flags and what it runs.

What a command needs is imported when it runs: `unloc --help` stays fast, and prediction needs no TensorFlow.
"""
