"""Metrics of the field, on NumPy arrays: no device, no jax, usable alone.

Every score is in percent. Times are in seconds (names end in `_s`); relative segments say so.

- `tiou`: temporal intersection over union.
- `moment_retrieval`: R@k at tIoU thresholds, mean IoU.
- `moment_retrieval_controls`: how much of those comes from understanding the text.
- `detection`: ActivityNet-style mAP of temporal action localisation.
"""
