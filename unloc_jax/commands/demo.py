"""`unloc demo`."""

import argparse
import importlib.util
from pathlib import Path

from unloc_jax.commands.common import Commands, add_command, count, quiet
from unloc_jax.errors import UserError
from unloc_jax.paths import path_of


def add(commands: Commands) -> None:
    parser = add_command(
        commands, "demo", _run, "a web page that finds sentences in visitors' videos (docs/demo.md)"
    )
    parser.add_argument(
        "--checkpoint",
        type=path_of,
        metavar="DIR",
        help="a workdir, one of its steps, or an id of the Hugging Face hub that holds one",
    )
    parser.add_argument(
        "--task", metavar="NAME", help="task of a checkpoint with several (default: the first)"
    )
    parser.add_argument(
        "--clip",
        type=path_of,
        metavar="SRC",
        help="without --checkpoint: an encoder alone, as for `unloc zeroshot` (a folder of `unloc import`, KIND:SRC, "
        "or an id of the hub); with it: the encoder of a model trained on features",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default 127.0.0.1: only this machine; 0.0.0.0: everybody who reaches it)",
    )
    parser.add_argument("--port", type=int, metavar="N", help="(default: the first free one from 7860 on)")
    parser.add_argument(
        "--share",
        action="store_true",
        help="also through a public link by Gradio's tunnel, for up to 72 hours",
    )
    parser.add_argument(
        "--max-mb", type=count, default=200, metavar="MB", help="largest video file (default 200)"
    )
    parser.add_argument(
        "--max-minutes", type=float, default=10.0, metavar="MIN", help="longest video (default 10)"
    )
    parser.add_argument(
        "--allow-private-links",
        action="store_true",
        help="also fetch links from this machine and its network: visitors may then ask for what only it can reach",
    )


def _run(arguments: argparse.Namespace) -> None:
    if not (arguments.checkpoint or arguments.clip):
        raise UserError("name a model: --checkpoint DIR, or --clip SRC for CLIP alone.")
    if not arguments.checkpoint and arguments.task:
        raise UserError(f"--task={arguments.task}: only a --checkpoint has tasks.")
    if not 0 < arguments.max_minutes < float("inf"):
        raise UserError(f"--max-minutes must be above 0, got {arguments.max_minutes:g}.")
    if importlib.util.find_spec("gradio") is None:  # before a model is loaded
        raise UserError("the demo needs Gradio: pip install 'unloc_jax[demo]'.")
    quiet()
    from unloc_jax.demo.limits import Limits
    from unloc_jax.demo.serve import serve
    from unloc_jax.inference.load import load

    if arguments.checkpoint:
        localizer = load(arguments.checkpoint, arguments.task, clip=arguments.clip)
        localizer.check_videos()
        model = Path(arguments.checkpoint).name
    else:
        localizer = load(arguments.clip)
        model = f"{Path(arguments.clip).name} alone, not trained to localise"
    serve(
        localizer,
        model,
        limits=Limits(max_bytes=arguments.max_mb * 10**6, max_s=60 * arguments.max_minutes),
        host=arguments.host,
        port=arguments.port,
        share=arguments.share,
        allow_private_links=arguments.allow_private_links,
    )
