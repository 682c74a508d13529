# SPDX-License-Identifier: MIT
"""What a sweep found so far: the parts as arrays with the axes reconstruction, mask, noise, image, location."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kspike.sampling import subsampling_factor
from kspike.sweep import material

__all__ = ["Results", "collect"]

ABOUT = ("kspike", "commit", "engine", "numpy", "python", "machine", "system")


@dataclass(frozen=True, eq=False)
class Results:
    """Arrays over the cells (reconstruction, mask, noise, image), NaN or -1 where nothing is there yet."""

    specification: Any
    amplification: Any
    """alpha of every location, (*cells, locations)."""
    artifact_max: Any
    """||rec(y + e) - rec(y)||_inf of every location."""
    pairs: Any
    """FFT + inverse FFT pairs spent at every location; -1 where they are not counted."""
    best: Any
    """The index of the selected location of every cell, -1 where the cell is not complete."""
    tables: Any
    """lam, eta, psnr, and seconds by the clock and of a core (cpu) of every cell, by their name."""
    factors: Any
    """n^2 / m of every mask."""
    ids: Any
    """The id of the task that holds the selected location, by the cell."""
    failures: Any
    """The records of the tasks that failed, by their id."""
    missing: int
    """Tasks that are neither done nor failed."""
    provenance: Any
    """For each thing in ABOUT the number of tasks by its value."""
    warnings: Any
    """The number of tasks by warning."""
    finished: Any
    """When the first and the last task were finished, in seconds since 1970; None if none is."""

    def selected(self, name):
        """`amplification`, `artifact_max` or `units` at the selected location of every cell, NaN where none is."""
        values = self.units if name == "units" else getattr(self, name)
        found = np.take_along_axis(values, np.maximum(self.best, 0)[..., None], -1)[..., 0]
        return np.where(self.best >= 0, found, np.nan)

    @property
    def units(self):
        """artifact_max / (eta sqrt(n^2 / m)): about 1 for a spike that total variation recovers."""
        scale = self.tables["eta"] * np.sqrt(self.factors)[None, :, None, None]
        return self.artifact_max / scale[..., None]


def collect(specification, store):
    """Read every part of a sweep, checking its hash; a `Results`."""
    cells, k = specification.sizes, len(specification.locations)
    amplification, artifact_max = np.full((*cells, k), np.nan), np.full((*cells, k), np.nan)
    pairs = np.full((*cells, k), -1)
    tables = {name: np.full(cells, np.nan) for name in ("lam", "eta", "psnr", "seconds", "cpu")}
    best, score, chunks = np.full(cells, -1), np.full(cells, -math.inf), np.zeros(cells, int)
    ids, times, left = {}, [], []
    provenance, warnings = {name: {} for name in ABOUT}, {}
    for task in specification.tasks():
        part = store.read(task.id)
        if part is None:
            left.append(task.id)
            continue
        arrays, about = part
        cell, here = task.cell, slice(task.first, task.first + len(task.description["locations"]))
        amplification[cell][here], artifact_max[cell][here] = arrays["amplification"], arrays["artifact_max"]
        if "pairs" in arrays:
            pairs[cell][here] = arrays["pairs"]
        for name in ("lam", "eta", "psnr"):
            tables[name][cell] = arrays[name]
        for name in ("seconds", "cpu"):
            tables[name][cell] = np.nansum([tables[name][cell], about[name]])
        chunks[cell] += 1
        if arrays["score"] > score[cell]:
            score[cell], best[cell], ids[cell] = arrays["score"], task.first + arrays["best"], task.id
        times.append(about["finished"])
        for name in ABOUT:
            provenance[name][about[name]] = provenance[name].get(about[name], 0) + 1
        for text in about["warnings"]:
            warnings[text] = warnings.get(text, 0) + 1
    best[chunks < math.ceil(k / specification.chunk)] = -1
    failures = store.failures(left)
    return Results(
        specification=specification,
        amplification=amplification,
        artifact_max=artifact_max,
        pairs=pairs,
        best=best,
        tables=tables,
        factors=np.array([subsampling_factor(material.mask(d)) for d in specification.masks]),
        ids=ids,
        failures=failures,
        missing=len(left) - len(failures),
        provenance=provenance,
        warnings=warnings,
        finished=(min(times), max(times)) if times else None,
    )
