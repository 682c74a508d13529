# SPDX-License-Identifier: MIT
"""`kspike attack`: attack the TV reconstruction of one image at a grid of locations."""

from __future__ import annotations

import contextlib
import os
import time

import numpy as np

from kspike import plots, sampling
from kspike._backends import ENGINES, select
from kspike.attack import attack
from kspike.cli import options
from kspike.solver import TVSolver

__all__ = ["add"]

LAM = 0.14  # times the noise and the image's largest modulus: within a few percent of the best lam from 2 % noise on


def add(commands):
    """Add the command to the parser."""
    command = commands.add_parser(
        "attack",
        help="attack the TV reconstruction of one image at a grid of locations",
        description="Search a grid of locations for the small perturbation of the samples whose TV reconstruction has "
        "the largest artifact. Print the best location; write OUT.png, three panels, and OUT.npz, the arrays.",
        allow_abbrev=False,
    )
    command.set_defaults(run=_attack)
    what = command.add_argument_group("what is attacked")
    what.add_argument(
        "--image", metavar="FILE", help=".npy, .npz, .png, .tif, .jpg or fastMRI's .h5; default: ellipses"
    )
    what.add_argument("--slice", type=int, metavar="N", help="which image of a stack; default: the middle one")
    what.add_argument(
        "--size", type=int, metavar="N", help="side of the ellipse image (256), or of the middle cut from FILE"
    )
    masks = what.add_mutually_exclusive_group()
    masks.add_argument("--lines", type=int, metavar="N", help="radial lines that are sampled (40)")
    masks.add_argument(
        "--mask", metavar="FILE", help="sampling mask instead: .npy, .npz or .png, zero frequency at n // 2"
    )
    what.add_argument("--lam", type=float, help=f"weight of the total variation ({LAM} noise max|x|)")
    how = command.add_argument_group("the attack")
    how.add_argument(
        "--noise", type=float, default=0.04, help="size of the perturbation relative to the samples (0.04)"
    )
    how.add_argument(
        "--grid", type=options.grid, default=(8, 8), metavar="RxC", help="locations along rows and columns (8x8)"
    )
    how.add_argument("--radius", type=float, default=5, help="of the disk around each location, in pixels (5)")
    how.add_argument("--seed", type=int, default=0, help="of the ellipse image and of the attack (0)")
    run = command.add_argument_group("the run")
    run.add_argument(
        "--backend", choices=[name for name in ENGINES if name != "cupy"], help="engine; default: the fastest"
    )
    run.add_argument("--threads", type=int, metavar="N", help="default: every core that this process may use")
    run.add_argument("--out", default="kspike-attack", help="OUT of the files OUT.png and OUT.npz (kspike-attack)")
    run.add_argument("--quiet", action="store_true", help="no progress")


def _attack(arguments):
    start = time.perf_counter()
    noise = arguments.noise
    if not 0 < noise < 1:
        raise ValueError(f"--noise: expected a number in (0, 1), 4 % being 0.04, got {noise:g}")
    if not 0 <= arguments.seed < 2**63:
        raise ValueError(f"--seed: expected an integer in [0, 2^63), got {arguments.seed}")
    if not arguments.image and arguments.slice is not None:
        raise ValueError("--slice: expected --image FILE to take it from")
    if not arguments.backend and os.environ.get("KSPIKE_BACKEND") == "cupy":
        raise ValueError("KSPIKE_BACKEND: expected cpp, numba or reference for the command line, got cupy")
    outputs = options.outputs(arguments.out)
    plots.need_matplotlib()
    image, image_name = options.image(arguments)
    mask, mask_name = options.mask(arguments, image.shape)
    largest = float(np.abs(image).max())
    if not largest:
        raise ValueError(f"{arguments.image}: expected an image that is not zero everywhere")
    lam = LAM * noise * largest if arguments.lam is None else arguments.lam
    threads = options.cores() if arguments.threads is None else arguments.threads

    tv = TVSolver(mask, lam=lam, backend=arguments.backend, threads=threads)
    with contextlib.nullcontext() if arguments.quiet else options.progress() as progress:
        found = attack(
            tv,
            tv.A(image),
            noise=noise,
            grid=arguments.grid,
            radius=arguments.radius,
            seed=arguments.seed,
            progress=progress,
        )

    factor = sampling.subsampling_factor(mask)
    isa = getattr(select(arguments.backend), "ISA", None)
    _save(outputs, arguments, image, mask, lam, found, factor)
    rows, cols = image.shape
    for name, value in (
        ("image", f"{image_name}, {rows} x {cols}"),
        ("samples", f"{tv.samples} of {mask_name}, n^2/m = {factor:.4g}"),
        ("noise", f"{noise:g} of ||y||, eta = {found.eta:.4g}"),
        ("lam", f"{lam:.4g}"),
        ("engine", f"{tv.backend}{f' ({isa})' if isa else ''}, {tv.dtype}, {threads} thread{'s'[: threads != 1]}"),
        ("best location", f"row {found.location[0]}, col {found.location[1]}, of {'x'.join(map(str, arguments.grid))}"),
        ("largest artifact", f"{found.artifact_max:.4g}"),
        ("largest image perturbation", f"{found.image_perturbation_max:.4g}"),
        ("alpha", f"{found.amplification:.4g}"),
        ("time", f"{time.perf_counter() - start:.1f} s"),
        ("written", " ".join(outputs)),
    ):
        print(f"{name:<27}{value}")


def _save(outputs, arguments, image, mask, lam, found, factor):
    """Write the picture and the arrays."""
    picture, arrays = outputs
    caption = (
        rf"$\alpha = {found.amplification:.2f}$      $n^2/m = {factor:.2f}$      "
        rf"$\Vert \mathrm{{rec}}(y + e) - \mathrm{{rec}}(y) \Vert_\infty = {found.artifact_max:.2f}$      "
        rf"$\Vert A^{{\dagger}} e \Vert_\infty = {found.image_perturbation_max:.2f}$"
    )
    largest = np.abs(image).max()
    panels = (image, image + found.image_perturbation, found.reconstruction)
    plots.triptych(*(panel / largest for panel in panels), found.location, picture, caption=caption)
    np.savez(
        arrays,
        image=image,
        mask=mask,
        perturbation=found.perturbation,
        artifact=found.artifact,
        image_perturbation=found.image_perturbation,
        reconstruction=found.reconstruction,
        clean=found.clean,
        locations=found.locations,
        amplifications=found.amplifications,
        artifact_maxima=found.artifact_maxima,
        location=found.location,
        noise=arguments.noise,
        radius=arguments.radius,
        lam=lam,
        seed=arguments.seed,
        version=options.version(),
    )
