"""The demo as a Space of Hugging Face; README.md beside this file says how."""

import os

import unloc_jax
from unloc_jax.demo.limits import Limits
from unloc_jax.demo.serve import serve

source = os.environ.get("UNLOC_MODEL", "openai/clip-vit-base-patch32")
limits = Limits(
    max_bytes=int(os.environ.get("UNLOC_MAX_MB", "100")) * 10**6,
    max_s=60 * float(os.environ.get("UNLOC_MAX_MINUTES", "3")),
)

if __name__ == "__main__":
    # A Space reaches its program through port 7860 of all addresses.
    port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))
    serve(unloc_jax.load(source), source, limits=limits, host="0.0.0.0", port=port)
