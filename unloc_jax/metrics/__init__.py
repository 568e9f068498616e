"""Metrics of the field on NumPy arrays: no device, no jax, usable on their own.

Every score is in percent. Times are in seconds (names end in `_s`); relative segments are named so.

- `tiou`: temporal intersection over union.
- `moment_retrieval`: R@k at tIoU thresholds, mean IoU.
- `moment_retrieval_controls`: how much of those results comes from understanding the text.
- `detection`: ActivityNet-style mAP of temporal action localisation, based on `matching`; `thumos14`: its devkit's mAP.
- `proposals`: AR@AN.
- `highlights`: mAP and HIT@1 of highlights; `qvhighlights`: moments and highlights as its own evaluator counts them.
- `segmentation`: one label per frame, frames and segments; `classification`: whole videos.
- `protocols`: all of these computed from the datasets' files, for `unloc metrics`.
"""
