# SPDX-License-Identifier: MIT
"""`kspike train`: train a network on endless ellipse images; killed at any moment, the same command goes on."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os

from kspike import plots
from kspike.cli import options

__all__ = ["add"]


def add(commands):
    """Add the command to the parser."""
    command = commands.add_parser(
        "train",
        help="train a network that reconstructs images",
        description="Train on ellipse images that are drawn on the way, with noisy samples. Write OUT.safetensors, the "
        "network in half precision with all that it is from; OUT.safetensors.state, to go on from: the same command "
        "after a kill does; OUT.png, the learning curve.",
        allow_abbrev=False,
    )
    command.set_defaults(run=_train)
    command.add_argument("out", metavar="OUT", help="name of the files")
    length = command.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, help="of the optimiser; going on after a kill is then exact")
    length.add_argument("--minutes", type=float, help="of training, validation included")
    command.add_argument("--kind", default="tira", help="tira (zero-filled inverse) or tirafl (learned one); tira")
    command.add_argument("--subnet", default="Tiramisu", help="Tiramisu or UNet (Tiramisu)")
    command.add_argument(
        "--options", type=json.loads, default={}, metavar="JSON", help="arguments of the subnet; default the paper's"
    )
    command.add_argument("--size", type=int, default=256, help="side of the images (256)")
    command.add_argument("--lines", type=int, default=40, help="radial lines that are sampled (40)")
    command.add_argument("--batch", type=int, default=4, help="images of a forward pass (4)")
    command.add_argument("--accumulate", type=int, default=1, help="forward passes of a step (1)")
    command.add_argument("--lr", type=float, default=2e-3, help="Adam's at its highest (2e-3)")
    command.add_argument(
        "--jitter", type=float, default=0.2, help="noise is uniform on [0, JITTER] of the samples (0.2)"
    )
    command.add_argument("--loss", default="relative", help="relative to the zero-filled error, or mse (relative)")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--start", metavar="CHECKPOINT", help="whose weights are begun with")
    command.add_argument("--device", default="cpu", help="cpu, cuda, ... (cpu)")
    command.add_argument("--threads", type=int, metavar="N", help="default: PyTorch's")
    command.add_argument("--every", type=int, default=200, help="steps from one validation to the next (200)")
    command.add_argument("--quiet", action="store_true", help="no progress")


def _train(arguments):
    folder = os.path.dirname(arguments.out)
    if folder and not os.path.isdir(folder):
        raise ValueError(f"OUT: expected a folder that exists, got {folder}")
    plots.need_matplotlib()
    nets = _nets()
    if arguments.threads is not None:
        importlib.import_module("kspike.torch.layers").torch.set_num_threads(arguments.threads)
    names = {field.name for field in dataclasses.fields(nets.Recipe)} & set(vars(arguments))
    recipe = nets.Recipe(**{name: getattr(arguments, name) for name in names})
    path = f"{arguments.out.removesuffix('.safetensors')}.safetensors"
    with contextlib.nullcontext() if arguments.quiet else options.progress("training", "permille") as show:

        def progress(row=None, *, share=0.0, **_):
            if row is not None:
                print(json.dumps(row), flush=True)
            elif show is not None:
                show(int(1000 * share), 1000)

        run = dict(start=arguments.start, device=arguments.device, every=arguments.every)
        net = nets.train(recipe, path, progress=progress, **run)
    _curve(net.provenance["history"], f"{arguments.out.removesuffix('.safetensors')}.png")
    for name, value in net.provenance["validation"].items():
        print(f"{name:<15}{value}")
    print(f"{'written':<15}{path}")


def _nets():
    try:
        return importlib.import_module("kspike.nets")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "safetensors"):
            raise
        raise ImportError("networks need PyTorch and safetensors: pip install 'kspike[torch]'") from None


def _curve(history, path):
    """PSNR over that of zero-filling, against the images seen."""
    images = [row["images"] for row in history]
    series = [plots.Series(images, [row[f"gain_{name}"] for row in history], name) for name in ("clean", "noisy")]
    losses = [plots.Series(images, [row["loss"] for row in history])]
    drawn = [
        plots.Chart("validation", "images", "PSNR over zero-filling, dB", series),
        plots.Chart("training", "images", "loss", losses, log="y"),
    ]
    plots.charts(drawn, path)
