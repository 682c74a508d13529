# SPDX-License-Identifier: MIT
"""What descriptions stand for: images, masks, reconstructions, the options of an attack."""

from __future__ import annotations

import hashlib
import importlib
import math

import numpy as np

from kspike import ascent, images, phantoms, sampling
from kspike.operators import MaskedFourier
from kspike.solver import TVSolver

__all__ = ["OPTIMISERS", "array_hash", "attack_options", "file_hash", "image", "mask", "optimiser", "reconstruction"]

OPTIMISERS = {"power": ascent.Power, "adam": ascent.Adam, "pgd": ascent.PGD}


def image(d):
    """The image of a description; a file that has changed since it was described is an error."""
    if d["kind"] == "ellipses":
        return phantoms.ellipses(tuple(d["shape"]), seed=d["seed"])
    if d["kind"] == "shepp_logan":
        return phantoms.shepp_logan(tuple(d["shape"]))
    size = tuple(d["size"]) if isinstance(d["size"], list) else d["size"]
    return _unchanged(d, images.read_image(d["path"], slice=d["slice"], size=size, key=d["key"]))


def mask(d):
    """The mask of a description, likewise."""
    shape = tuple(d["shape"])
    if d["kind"] == "radial":
        return sampling.radial_mask(shape, d["lines"], offset=d.get("offset", 0))
    if d["kind"] == "cartesian":
        return sampling.cartesian_mask(
            shape, **{k: d[k] for k in ("acceleration", "center_fraction", "seed") if k in d}
        )
    found = images.read_mask(d["path"], key=d.get("key"))
    if found.shape != shape:
        raise ValueError(f"{d['path']}: expected a mask of the images' shape {shape}, got {found.shape}")
    return _unchanged(d, found)


def reconstruction(d, mask, lam=None, **settings):
    """The reconstruction of a description for a mask, anything with vjp; for TV with the weight lam.

    settings : dtype and backend
    """
    if d["kind"] == "tv":
        options = {key: d[key] for key in ("norm", "rho", "relax") if key in d}
        return TVSolver(mask, lam, **options, **settings)
    if d["kind"] == "network":
        return _network(d["checkpoint"], mask)
    module, _, name = d["make"].partition(":")
    return getattr(importlib.import_module(module), name)(MaskedFourier(mask, **settings), **d["options"])


def _network(checkpoint, mask):
    """The network of a checkpoint of `kspike.nets`, which is made for one mask."""
    net = importlib.import_module("kspike.nets").load(checkpoint)
    if not np.array_equal(net.mask, mask):
        raise ValueError(
            f"{checkpoint}: expected a network for this mask, got one for another of shape {net.mask.shape}"
        )
    return importlib.import_module("kspike.torch").Reconstruction(net)


def attack_options(d):
    """The arguments of `kspike.attack` for options as a specification has them."""
    found = dict(d)
    if "optimiser" in d:
        found["optimiser"] = optimiser(d["optimiser"])
    if isinstance(d.get("start"), list):
        found["start"] = tuple(d["start"])
    if d.get("radius") == "inf":
        found["radius"] = math.inf
    return found


def optimiser(d):
    """The optimiser of a description {kind, **options}."""
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in d.items() if key != "kind"}
    return OPTIMISERS[d["kind"]](**options)


def array_hash(array):
    """The SHA-256 of an array: its dtype, shape and bytes."""
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def file_hash(path):
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unchanged(d, array):
    if "sha256" in d and array_hash(array) != d["sha256"]:
        raise ValueError(f"{d['path']}: expected the contents of when the sweep was read, got others")
    return array
