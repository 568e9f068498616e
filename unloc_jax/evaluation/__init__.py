"""Evaluation of a split, by a checkpoint or by CLIP alone: predictions, metrics, tables and files."""
