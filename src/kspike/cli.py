# SPDX-License-Identifier: MIT
"""The command line: `kspike attack` attacks a reconstruction, `kspike tune` chooses lam, `kspike info` says what runs.

Results go to stdout, everything else to stderr. Exit status: 0, or 2 for wrong input, with the one line
`kspike: error: ...`, or 130 when interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import platform
import re
import sys
import tempfile
import time
import warnings

import numpy as np

from kspike import images, phantoms, plots, sampling, tuning
from kspike._backends import ENGINES, select
from kspike.attack import attack
from kspike.operators import MaskedFourier
from kspike.solver import TVSolver

__all__ = ["main"]

EXTRAS = ("h5py", "matplotlib", "pillow", "scipy", "tqdm")
LAM = 0.14  # times the noise and the image's largest modulus: within a few percent of the best lam from 2 % noise on


def main(argv=None):
    """Run one command; the exit status."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as end:  # argparse ends so after --help, --version and errors
        return end.code
    try:
        with _one_line_warnings():
            arguments.run(arguments)
    except (ValueError, OSError, ImportError) as error:
        return _fail(error)
    except MemoryError:
        return _fail("expected an image that fits in memory")
    except KeyboardInterrupt:
        print("kspike: interrupted", file=sys.stderr)
        return 130
    return 0


def _fail(message):
    """Say what went wrong in one line; the exit status."""
    print("kspike: error:", " ".join(str(message).split()), file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """Errors in one line, without the usage."""

    def error(self, message):
        sys.exit(_fail(f"{message} (see {self.prog} --help)"))


def _parser():
    parser = _Parser(prog="kspike", description="Attack and stress-test MRI reconstructions.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"kspike {_version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    info = commands.add_parser("info", help="what is installed, and which engines run here", allow_abbrev=False)
    info.set_defaults(run=_info)

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
    how.add_argument("--grid", type=_grid, default=(8, 8), metavar="RxC", help="locations along rows and columns (8x8)")
    how.add_argument("--radius", type=float, default=5, help="of the disk around each location, in pixels (5)")
    how.add_argument("--seed", type=int, default=0, help="of the ellipse image and of the attack (0)")
    run = command.add_argument_group("the run")
    run.add_argument(
        "--backend", choices=[name for name in ENGINES if name != "cupy"], help="engine; default: the fastest"
    )
    run.add_argument("--threads", type=int, metavar="N", help="default: every core that this process may use")
    run.add_argument("--out", default="kspike-attack", help="OUT of the files OUT.png and OUT.npz (kspike-attack)")
    run.add_argument("--quiet", action="store_true", help="no progress")

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
    return parser


def _grid(text):
    """(rows, cols) of `8x8`."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or "0" in (rows_cols := tuple(part.lstrip("0") or "0" for part in match.groups())):
        raise argparse.ArgumentTypeError(f"expected two positive numbers such as 8x8, got {text!r}")
    return tuple(int(part) for part in rows_cols)


def _version():
    try:
        return importlib.metadata.version("kspike")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _one_line_warnings():
    """Show warnings as one line, without the place in the source."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print("kspike: warning:", message, file=sys.stderr)
        yield


# --- kspike info -----------------------------------------------------------------------------------------------------


def _info(_):
    print(f"kspike {_version()}, Python {platform.python_version()}, NumPy {np.__version__}, {platform.platform()}")
    print(f"cores    {_cores()} for this process")
    for name in ENGINES:
        try:
            isa = getattr(select(name), "ISA", None)
            state = f"available{f', {isa}' if isa else ''}"
        except (ImportError, OSError, RuntimeError) as error:  # what broken installations raise
            state = " ".join(str(error).split())
        print(f"engine   {name:<10} {state}")
    for name in EXTRAS:
        try:
            state = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            state = "not installed"
        print(f"package  {name:<10} {state}")


# --- kspike attack ---------------------------------------------------------------------------------------------------


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
    outputs = _outputs(arguments.out)
    plots.need_matplotlib()
    image, image_name = _image(arguments)
    mask, mask_name = _mask(arguments, image.shape)
    largest = float(np.abs(image).max())
    if not largest:
        raise ValueError(f"{arguments.image}: expected an image that is not zero everywhere")
    lam = LAM * noise * largest if arguments.lam is None else arguments.lam
    threads = _cores() if arguments.threads is None else arguments.threads

    tv = TVSolver(mask, lam=lam, backend=arguments.backend, threads=threads)
    with contextlib.nullcontext() if arguments.quiet else _progress() as progress:
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


# --- kspike tune -----------------------------------------------------------------------------------------------------


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
        x = _image(arguments)[0][None]
    else:
        size = 256 if arguments.size is None else arguments.size
        x = phantoms.ellipses((size, size), seed=arguments.seed, count=arguments.count)
    mask, mask_name = _mask(arguments, x.shape[1:])
    threads = _cores() if arguments.threads is None else arguments.threads

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


def _image(arguments):
    """The image and its name."""
    if arguments.image:
        image = images.read_image(arguments.image, slice=arguments.slice, size=arguments.size)
        return image, arguments.image
    size = 256 if arguments.size is None else arguments.size
    return phantoms.ellipses((size, size), seed=arguments.seed), f"ellipses, seed {arguments.seed}"


def _mask(arguments, shape):
    """The mask and its name."""
    if not arguments.mask:
        lines = 40 if arguments.lines is None else arguments.lines
        return sampling.radial_mask(shape, lines), f"{lines} radial lines"
    mask = images.read_mask(arguments.mask)
    if mask.shape != shape:
        wanted, came = (" x ".join(map(str, s)) for s in (shape, mask.shape))
        raise ValueError(f"{arguments.mask}: expected a mask of the image's shape {wanted}, got {came}")
    return mask, arguments.mask


def _outputs(out):
    """The two files, or an error if they could not be written: better now than after the work."""
    out = re.sub(r"\.(png|npz)$", "", out)
    folder, name = os.path.split(out)
    if not name:
        raise ValueError(f"--out: expected the name of a file, got {out!r}")
    if not os.path.isdir(folder or "."):
        raise ValueError(f"--out: expected a folder that exists, got {folder}")
    outputs = [f"{out}.png", f"{out}.npz"]
    try:
        with tempfile.TemporaryFile(dir=folder or "."):
            pass
        for path in filter(os.path.lexists, outputs):
            with open(path, "ab"):
                pass
    except OSError as error:
        raise ValueError(f"--out: expected files that can be written, got {error}") from None
    return outputs


@contextlib.contextmanager
def _progress():
    """A function (done, total) that shows the progress on stderr: tqdm's bar, or a count where it is not installed."""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:

        def count(done, total):
            print(f"\r{done} / {total} locations", end="\n" if done == total else "", file=sys.stderr, flush=True)

        yield count
        return
    bar = None

    def show(done, total):
        nonlocal bar
        if bar is None:  # not before the first locations are done: what is refused before them stays one line
            bar = tqdm(total=total, unit=" locations", leave=False, file=sys.stderr)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


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
        version=_version(),
    )
