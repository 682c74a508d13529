# SPDX-License-Identifier: MIT
"""One task, computed: from its description to arrays. Nothing here depends on when, where or after what it runs."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import time
import warnings

import numpy as np

import kspike
from kspike import tuning
from kspike._backends import select
from kspike.attack import attack
from kspike.metrics import psnr
from kspike.sweep import material
from kspike.sweep.specification import name_of

__all__ = ["compute", "prepare", "provenance", "transfers", "tuned_lam"]

BATCH = 64  # locations at once on a GPU; one by one, images stay in the caches of a core


def prepare(description, store):
    """The image, the reconstruction, the operator A and the samples of a task, and lam, NaN where it has none."""
    x, mask = material.image(description["image"]), material.mask(description["mask"])
    settings = {"dtype": description["dtype"], "backend": description["backend"]}
    lam = tuned_lam(description, mask, store)
    rec = material.reconstruction(description["reconstruction"], mask, lam, **settings)
    A = kspike.MaskedFourier(mask, **settings)
    put, _ = transfers(description["backend"])
    return x, rec, A, A(put(_fit(x, A))), float("nan") if lam is None else lam


def transfers(backend):
    """The functions that take an array to where this engine runs, and back."""
    cupy = getattr(select(backend), "cupy", None)
    return (cupy.asarray, cupy.asnumpy) if cupy is not None else (np.asarray, np.asarray)


def compute(task, description, store):
    """The arrays of a task and what is to be known about them.

    amplification, artifact_max, pairs : of each location, (k,); pairs is absent where the reconstruction counts none
    best : the index of the selected location, score : its value; lam, eta : as used; psnr : of rec(y) against the image
    and what the description keeps: of the selected location, or `perturbations` of all
    """
    start, cpu = time.perf_counter(), time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        x, rec, A, y, lam = prepare(description, store)
        options = material.attack_options(description["attack"])
        put, get = transfers(description["backend"])
        places, truth = [tuple(place) for place in description["locations"]], _fit(x, A)
        options |= {"at": places, "seed": int(task[:15], 16), "truth": put(truth)}
        found = attack(rec, y, A=A, noise=description["noise"], batch=1 if put is np.asarray else BATCH, **options)
    error = options.get("select") == "error"
    arrays = {
        "amplification": found.amplifications,
        "artifact_max": found.artifact_maxima,
        "best": np.int64(places.index(found.location)),
        "score": np.float64(np.abs(get(found.reconstruction) - truth).max() if error else found.artifact_max),
        "lam": np.float64(lam),
        "eta": np.float64(found.eta),
        "psnr": np.float64(psnr(get(found.clean), truth)),
    }
    if found.pairs is not None:
        arrays["pairs"] = found.pairs
    arrays |= {name: get(getattr(found, name)) for name in description["keep"]}
    about = {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "finished": time.time(),
        "warnings": sorted({str(w.message) for w in caught}),
        "description": description,
        **provenance(description["backend"]),
    }
    return arrays, about


def tuned_lam(description, mask, store):
    """lam of a TV reconstruction, None for any other; one that is tuned is tuned once for each mask and noise."""
    lam = description["reconstruction"].get("lam")
    if not isinstance(lam, dict):
        return lam
    kept = {key: description[key] for key in ("mask", "noise", "dtype")}
    norm = description["reconstruction"]["norm"]
    return store.tuned(name_of({**kept, **lam, "norm": norm}), lambda: _tune(kept, lam, norm, mask))["lam"]


def _tune(kept, how, norm, mask):
    """Choose lam on noisy samples of the images, on a CPU, rounded to three digits: every machine finds the same."""
    A = kspike.MaskedFourier(mask, dtype=kept["dtype"])
    x = np.stack([material.image(d) for d in how["images"]])
    y = A(_fit(x, A))
    e = np.random.default_rng(int(name_of(kept)[:15], 16)).standard_normal((*y.shape, 2)) @ (1, 1j)
    size = kept["noise"] * np.linalg.norm(y, axis=1) / np.linalg.norm(e, axis=1)
    y = (y + e * size[:, None]).astype(A.dtype)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asked = {"criterion": how["criterion"], "noise": kept["noise"], "norm": norm}
        found = tuning.tune(y, mask, truth=_fit(x, A), **asked)
    return {
        "lam": float(f"{found.lam:.3g}"),
        "mask": kept["mask"]["name"],
        "noise": kept["noise"],
        "criterion": how["criterion"],
        "images": len(x),
        "lams": found.lams.tolist(),
        "curve": found.curve.tolist(),
        "pairs": found.pairs,
        "warnings": [str(w.message) for w in caught],
    }


@functools.cache
def provenance(backend=None):
    """Which software, on which engine, and which machine: a table of texts."""
    engine = select(backend)
    isa = getattr(engine, "ISA", None)
    return {
        "kspike": _version(),
        "commit": _commit(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "engine": engine.__name__.rpartition(".")[2] + (f" ({isa})" if isa else ""),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "system": platform.platform(),
        "host": platform.node(),
    }


def _version():
    try:
        return importlib.metadata.version("kspike")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit():
    """The commit of the checkout that kspike runs from, with + where files differ from it."""
    folder = pathlib.Path(__file__).parent

    def git(*arguments):
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--", folder.parent) else ""
        )
    except OSError:  # no git here
        return ""


def _processor():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _fit(x, A):
    """The image in the precision of the operator."""
    return np.ascontiguousarray(x, dtype=A.dtype if x.dtype.kind == "c" else A.dtype.type(0).real.dtype)
