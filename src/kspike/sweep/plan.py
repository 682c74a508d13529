# SPDX-License-Identifier: MIT
"""What a sweep will cost, before it runs: tasks, FFT pairs, seconds, bytes."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from kspike.attack import PRESETS, attack
from kspike.sweep import material
from kspike.sweep.compute import prepare, transfers

__all__ = ["Plan", "plan"]

TRIED = {"steps": 3, "final": 20}  # of the attack that is timed
LAM = 0.14  # times the noise, in place of a lam that is still to be tuned
ABOUT = 3000  # bytes of a part beside its arrays, some


@dataclass(frozen=True)
class Plan:
    """What is to be done, and what is left of it."""

    tasks: int
    done: int
    failed: int
    attacks: int
    """Locations over all cells."""
    left: int
    """Of these, the ones that are neither done nor failed."""
    pairs: int | None
    """FFT + inverse FFT pairs of those left, at most; None where the reconstructions count none."""
    seconds: float
    """Of one core, for those left, as measured on one location of each reconstruction and mask."""
    tuned: int
    """How many lam are still to be tuned: that is not in pairs and seconds."""
    part_bytes: int
    """Of all parts, when everything is done."""
    kept_bytes: int
    """Of these, the arrays that the specification keeps: what a Zarr group will hold before it is compressed."""


def plan(specification, store):
    """Count, and time a few steps of an attack for each reconstruction and mask; a `Plan`. Writes nothing."""
    tasks = specification.tasks()
    sound, _ = store.done(task.id for task in tasks)
    failed = store.failures(task.id for task in tasks if task.id not in sound)
    left = [task for task in tasks if task.id not in sound and task.id not in failed]
    costs, pairs, seconds = {}, 0, 0.0
    for task in left:
        kind = task.cell[:2]
        if kind not in costs:
            costs[kind] = _cost(task.description)
        once, each, each_pairs = costs[kind]
        count = len(task.description["locations"])
        seconds += once + each * count
        pairs = None if pairs is None or each_pairs is None else pairs + each_pairs * count
    samples = [int(material.mask(d).sum()) for d in specification.masks]
    kept = sum(_kept_bytes(specification, task, samples[task.cell[1]]) for task in tasks)
    return Plan(
        tasks=len(tasks),
        done=len(sound),
        failed=len(failed),
        attacks=len(specification.locations) * math.prod(specification.sizes),
        left=sum(len(task.description["locations"]) for task in left),
        pairs=pairs,
        seconds=seconds,
        tuned=len({task.cell[:3] for task in left if isinstance(task.description["reconstruction"].get("lam"), dict)}),
        part_bytes=kept + sum(ABOUT + 24 * len(task.description["locations"]) for task in tasks),
        kept_bytes=kept,
    )


def _cost(description):
    """Seconds of a task for its start and for each location, and pairs for each location or None."""
    options = material.attack_options(description["attack"])
    reconstruction = description["reconstruction"]
    if isinstance(reconstruction.get("lam"), dict):
        reconstruction = reconstruction | {"lam": LAM * description["noise"]}
    x, rec, A, y, _ = prepare(description | {"reconstruction": reconstruction}, store=None)
    defaults = PRESETS[options.get("preset", "default")]
    steps, final = options.get("steps", defaults["steps"]), options.get("final", defaults["final"])
    starts = options.get("start", defaults["start"])
    restarts = len(starts) if isinstance(starts, tuple) else 1
    stamps = [time.perf_counter()]

    def stamp(step, *_):
        stamps.append(time.perf_counter())

    asked = options | {"at": [tuple(description["locations"][0])], "callback": stamp, **TRIED}
    asked.pop("budget", None)
    truth = transfers(description["backend"])[0](x.astype(A.dtype))
    found = attack(rec, y, A=A, noise=description["noise"], truth=truth, **asked)
    stamps.append(time.perf_counter())
    once, step = stamps[1] - stamps[0], float(np.median(np.diff(stamps[1 : TRIED["steps"] + 1])))
    ending = max(0.0, stamps[-1] - stamps[-2] - step) / (TRIED["final"] if found.pairs is not None else 1)
    each = restarts * (steps * step + (final if found.pairs is not None else 1) * ending)
    if found.pairs is None:
        return once, each, None
    spent = int(found.pairs.max()) // restarts
    pairs = restarts * ((spent - TRIED["final"]) // TRIED["steps"] * steps + final)
    if "budget" in options:
        each *= min(1.0, options["budget"] / pairs)
        pairs = min(pairs, options["budget"])
    return once, each, pairs


def _kept_bytes(specification, task, samples):
    """Bytes of what a task keeps."""
    number = 8 if task.description["dtype"] == "complex64" else 16
    size = {name: math.prod(specification.shape) for name in specification.keep}
    size |= {"perturbation": samples, "perturbations": samples * len(task.description["locations"])}
    return number * sum(size[name] for name in specification.keep)
