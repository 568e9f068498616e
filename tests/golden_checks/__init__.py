"""Compares this project with the reference's numbers, for tests and for `python -m tests.check_goldens`."""
