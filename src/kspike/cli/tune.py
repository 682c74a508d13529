# SPDX-License-Identifier: MIT
"""`kspike tune`: choose lam, the weight of the total variation."""

from __future__ import annotations

import os

import numpy as np

from kspike import phantoms, plots, tuning
from kspike._backends import ENGINES
from kspike.cli import options
from kspike.operators import MaskedFourier

__all__ = ["add"]


def add(commands):
    """Add the command to the parser."""
    command = commands.add_parser(
        "tune",
        help="choose lam, the weight of the total variation",
        description="Reconstruct noisy samples of test images, or of one image, for a path of lam. Print the criterion "
        "and the best lam; write OUT.png, the curve.",
        allow_abbrev=False,
    )
    command.set_defaults(run=_tune)
    command.add_argument("--image", metavar="FILE", help="one image instead of ellipses, as for attack")
    command.add_argument("--slice", type=int, metavar="N", help="which image of a stack; default: the middle one")
    command.add_argument("--size", type=int, metavar="N", help="side of the ellipse images (256), or of the cut")
    command.add_argument("--count", type=int, default=3, help="how many ellipse images (3)")
    masks = command.add_mutually_exclusive_group()
    masks.add_argument("--lines", type=int, metavar="N", help="radial lines that are sampled (40)")
    masks.add_argument("--mask", metavar="FILE", help="sampling mask instead, as for attack")
    command.add_argument("--noise", type=float, default=0.04, help="of the samples, relative to them (0.04)")
    command.add_argument("--criterion", choices=tuning.CRITERIA, default="truth", help="what is least (truth)")
    command.add_argument("--seed", type=int, default=0, help="of the images and of the noise (0)")
    command.add_argument("--backend", choices=[name for name in ENGINES if name != "cupy"], help="engine")
    command.add_argument("--threads", type=int, metavar="N", help="default: every core that this process may use")
    command.add_argument("--out", default="kspike-tune.png", help="the picture (kspike-tune.png)")


def _tune(arguments):
    if not 0 < arguments.noise < 1:
        raise ValueError(f"--noise: expected a number in (0, 1), 4 % being 0.04, got {arguments.noise:g}")
    if arguments.count < 1:
        raise ValueError(f"--count: expected at least one image, got {arguments.count}")
    folder = os.path.dirname(arguments.out)
    if folder and not os.path.isdir(folder):
        raise ValueError(f"--out: expected a folder that exists, got {folder}")
    plots.need_matplotlib()
    if arguments.image:
        x = options.image(arguments)[0][None]
    else:
        size = 256 if arguments.size is None else arguments.size
        x = phantoms.ellipses((size, size), seed=arguments.seed, count=arguments.count)
    mask, mask_name = options.mask(arguments, x.shape[1:])
    threads = options.cores() if arguments.threads is None else arguments.threads

    A = MaskedFourier(mask, backend=arguments.backend, threads=threads)
    y = A(np.ascontiguousarray(x))
    e = np.random.default_rng(arguments.seed).standard_normal((*y.shape, 2)) @ (1, 1j)
    y = (y + e * (arguments.noise * np.linalg.norm(y, axis=1) / np.linalg.norm(e, axis=1))[:, None]).astype(y.dtype)
    asked = {"backend": arguments.backend, "threads": threads, "noise": arguments.noise}
    found = tuning.tune(y, mask, criterion=arguments.criterion, truth=x, **asked)
    plots.curve(found.lams, found.curve, arguments.out, label=arguments.criterion)
    for lam, value in zip(found.lams, found.curve, strict=True):
        print(f"{lam:<12.4g}{value:<12.5g}{'best' if lam == found.lam else ''}".rstrip())
    for name, text in (
        ("images", f"{len(x)}, {x.shape[1]} x {x.shape[2]}, {mask_name}, noise {arguments.noise:g}"),
        ("criterion", found.criterion),
        ("lam", f"{found.lam:.4g}"),
        ("pairs", f"{found.pairs}, {found.pairs // len(x)} an image"),
        ("written", arguments.out),
    ):
        print(f"{name:<12}{text}")
