# SPDX-License-Identifier: MIT
"""Whether a perturbation made for one reconstruction harms another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kspike import door

__all__ = ["Transfer", "transfer"]


@dataclass(frozen=True, eq=False)
class Transfer:
    """What each of several perturbations does to each of several reconstructions: rows rec, columns perturbation."""

    artifact_maxima: Any
    """||rec_i(y + e_j) - rec_i(y)||_inf, (recs, perturbations)."""
    amplifications: Any
    """The same over ||A* e_j||_inf."""
    lipschitz: Any
    """||rec_i(y + e_j) - rec_i(y)||_2 / ||e_j||_2: a lower bound on the local Lipschitz constant of rec_i."""
    artifacts: Any = field(repr=False)
    """rec_i(y + e_j) - rec_i(y), (recs, perturbations, rows, cols)."""


def transfer(recs, perturbations, y, *, A=None):
    """Apply each perturbation to each reconstruction of the samples y; a `Transfer`.

    Parameters
    ----------
    recs : functions of samples (m,), as TVSolver is, or objects with vjp
    perturbations : arrays (m,), or what `attack` found
    y : samples (m,), complex
    A : the measurement operator; default that of the first rec that has one
    """
    door.array("y", y, ("m",))
    if not len(recs) or not len(perturbations):
        raise ValueError(f"transfer: expected recs and perturbations, got {len(recs)} and {len(perturbations)}")
    A = next((rec.A for rec in recs if hasattr(rec, "A")), None) if A is None else A
    if A is None:
        raise TypeError("A: no rec has an attribute A, give the measurement operator: A=kspike.MaskedFourier(mask)")
    es = [getattr(e, "perturbation", e) for e in perturbations]
    for j, e in enumerate(es):
        if np.shape(e) != y.shape:
            raise ValueError(f"perturbations[{j}]: expected shape {y.shape}, got {np.shape(e)}")
        if not np.any(e):
            raise ValueError(f"perturbations[{j}]: expected one that is not zero")
    moved = [[_rec(rec, (y + e).astype(y.dtype)) - clean for e in es] for rec, clean in _clean(recs, y)]
    artifacts = np.stack([np.stack(row) for row in moved])
    maxima = np.array(np.abs(artifacts).max((-2, -1)).tolist())
    image = np.array([float(np.abs(A.adjoint(np.asarray(e, y.dtype, like=y))).max()) for e in es])
    norms = np.array([float(np.linalg.norm(e)) for e in es])
    lipschitz = np.sqrt((np.abs(artifacts) ** 2).sum((-2, -1), dtype=float).tolist()) / norms
    return Transfer(maxima, maxima / image, lipschitz, artifacts)


def _clean(recs, y):
    """Pairs of each rec and its reconstruction of y."""
    return [(rec, _rec(rec, y)) for rec in recs]


def _rec(rec, y):
    return rec(y) if callable(rec) else rec.vjp(y)[0]
