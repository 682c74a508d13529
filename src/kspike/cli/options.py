# SPDX-License-Identifier: MIT
"""What the commands share: images and masks by their options, the files they write, progress."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import re
import sys
import tempfile

from kspike import images, phantoms, sampling

__all__ = ["cores", "grid", "image", "mask", "outputs", "progress", "version"]


def grid(text):
    """(rows, cols) of `8x8`."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match or "0" in (rows_cols := tuple(part.lstrip("0") or "0" for part in match.groups())):
        raise argparse.ArgumentTypeError(f"expected two positive numbers such as 8x8, got {text!r}")
    return tuple(int(part) for part in rows_cols)


def version():
    """The installed version of kspike."""
    try:
        return importlib.metadata.version("kspike")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def image(arguments):
    """The image and its name."""
    if arguments.image:
        return images.read_image(arguments.image, slice=arguments.slice, size=arguments.size), arguments.image
    size = 256 if arguments.size is None else arguments.size
    return phantoms.ellipses((size, size), seed=arguments.seed), f"ellipses, seed {arguments.seed}"


def mask(arguments, shape):
    """The mask and its name."""
    if not arguments.mask:
        lines = 40 if arguments.lines is None else arguments.lines
        return sampling.radial_mask(shape, lines), f"{lines} radial lines"
    read = images.read_mask(arguments.mask)
    if read.shape != shape:
        wanted, came = (" x ".join(map(str, s)) for s in (shape, read.shape))
        raise ValueError(f"{arguments.mask}: expected a mask of the image's shape {wanted}, got {came}")
    return read, arguments.mask


def outputs(out):
    """The two files, or an error if they could not be written: better now than after the work."""
    out = re.sub(r"\.(png|npz)$", "", out)
    folder, name = os.path.split(out)
    if not name:
        raise ValueError(f"--out: expected the name of a file, got {out!r}")
    if not os.path.isdir(folder or "."):
        raise ValueError(f"--out: expected a folder that exists, got {folder}")
    paths = [f"{out}.png", f"{out}.npz"]
    try:
        with tempfile.TemporaryFile(dir=folder or "."):
            pass
        for path in filter(os.path.lexists, paths):
            with open(path, "ab"):
                pass
    except OSError as error:
        raise ValueError(f"--out: expected files that can be written, got {error}") from None
    return paths


@contextlib.contextmanager
def progress(label=None, unit="locations"):
    """A function (done, total) that shows the progress on stderr: tqdm's bar, or a count where it is not installed."""
    before = f"{label}: " if label else ""
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:

        def count(done, total):
            end = "\n" if done == total else ""
            print(f"\r{before}{done} / {total} {unit}", end=end, file=sys.stderr, flush=True)

        yield count
        return
    bar = None

    def show(done, total):
        nonlocal bar
        if bar is None:  # not before the first locations are done: what is refused before them stays one line
            bar = tqdm(desc=label, total=total, unit=f" {unit}", leave=False, file=sys.stderr)
        bar.update(done - bar.n)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()
