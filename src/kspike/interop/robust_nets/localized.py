# SPDX-License-Identifier: MIT
"""`config_grid_attack` of github.com/smichelena/localadvmri: the localized attack of arXiv 2206.05289 over a grid.

Its module-level operators and parameters are those of a `GridAttack` here; every signature is kept.
"""

from __future__ import annotations

import functools
import math
import warnings

import torch
from tqdm import tqdm

from kspike.interop.robust_nets.find_adversarial import PAdam, untargeted_attack
from kspike.interop.robust_nets.operators import Fourier, TVAnalysisPeriodic, im2vec, proj_l2_ball
from kspike.interop.robust_nets.reconstruction_methods import admm_l1_rec_diag

__all__ = [
    "GridAttack",
    "LocalLoss",
    "complexMSE",
    "complex_norm",
    "get_grid",
    "get_ratios",
    "reconstruct_batch_dims",
    "select_loc",
]


def complexMSE(ref, pred):
    """Sum over everything of (|ref| - |pred|)^2; channels in dimension -3."""
    return (torch.linalg.vector_norm(ref, dim=-3) - torch.linalg.vector_norm(pred, dim=-3)).pow(2).sum()


class LocalLoss:
    """loss(x, y) on the disk of diameter `width` about loc = (x, y) = (column, row) of images (..., *shape)."""

    def __init__(self, shape, loc, width, loss=complexMSE, device="cpu"):
        rows, cols = (torch.arange(float(n)) for n in shape)
        distance2 = (cols - loc[0]) ** 2 + (rows[:, None] - loc[1]) ** 2
        self.locmask, self.loss = (distance2 <= (width / 2) ** 2).to(device), loss
        if not self.locmask.any():
            warnings.warn(f"LocalLoss: no pixel within {width / 2:g} of {tuple(loc)}", stacklevel=2)

    def __call__(self, x, y):
        """The loss of what lies on the disk."""
        inside = im2vec(self.locmask)
        return self.loss(*(im2vec(v)[..., inside].unsqueeze(-1) for v in (x, y)))


def get_grid(n_locs, shape):
    """The centres ((i + 1/2) n1 / N1, (j + 1/2) n2 / N2) of a regular grid as (x, y) = (column, row): (N1, N2, 2)."""
    rows, cols = ((torch.arange(k) + 0.5) * n / k for k, n in zip(n_locs, shape, strict=True))
    return torch.stack(torch.meshgrid(rows, cols, indexing="ij")[::-1], dim=-1)


def complex_norm(X, p=math.inf):
    """The p-norm of the moduli of images (..., 2, n1, n2)."""
    return torch.linalg.vector_norm(torch.linalg.vector_norm(X, dim=-3), ord=p, dim=(-2, -1))


def select_loc(R, p=math.inf):
    """The index (i, j, k) of the largest ||R[i, j, k]||_p over locations, for each image k of (N1, N2, b, 2, n, n)."""
    norms = complex_norm(R, p)
    best = norms.flatten(end_dim=1).argmax(dim=0)
    return best // norms.shape[1], best % norms.shape[1], range(norms.shape[2])


def get_ratios(R1, R2, p=math.inf):
    """||R1||_p / ||R2||_p of the moduli: alpha, for an artifact and what caused it."""
    return complex_norm(R1, p) / complex_norm(R2, p)


def reconstruct_batch_dims(Y, method, batch_size=5):
    """`method` on samples (..., 2, m), batch_size at a time: (..., 2, n1, n2)."""
    X = torch.cat([method(part) for part in Y.reshape(-1, *Y.shape[-2:]).split(batch_size)])
    return X.reshape(*Y.shape[:-2], *X.shape[-3:])


class GridAttack:
    """The experiment for one mask: reconstruction, perturbation at a location, attack over the grid, plain spikes.

    mask : (1, 1, n1, n2) or (n1, n2)
    parameters : noise_rel -> (lam, rho); or a table with columns `noise_rel` and `grid_param`, {"lam", "rho"} a row,
        as `grid_search` leaves it: the row of the nearest level
    rec_full_iter, rec_init_iter, rec_adv_iter : iterations of what is judged, of the attack's start and of its steps
    """

    def __init__(self, mask, parameters, *, rec_full_iter=5000, rec_adv_iter=50, rec_init_iter=100):
        self.mask = mask.reshape(1, 1, *mask.shape[-2:])
        self.OpA = Fourier(self.mask)
        self.OpTV = TVAnalysisPeriodic(self.OpA.n, device=mask.device)
        self.n, self.m = self.OpA.n[-1], self.OpA.m
        self.parameters = parameters if callable(parameters) else functools.partial(_nearest, parameters)
        self.rec_full_iter, self.rec_adv_iter, self.rec_init_iter = rec_full_iter, rec_adv_iter, rec_init_iter

    def reconstruct_full(self, y, noise_rel, iter=None):
        """(x, z) by `iter` iterations from A*y."""
        x0 = self.OpA.adj(y)
        iter = self.rec_full_iter if iter is None else iter
        return admm_l1_rec_diag(y, self.OpA, self.OpTV, x0, self.OpTV(x0), *self.parameters(noise_rel), iter=iter)

    def reconstruct_adv(self, y, lam, rho, x0, z0, iter=None):
        """The x of few iterations, from a given start; what is attacked."""
        iter = self.rec_adv_iter if iter is None else iter
        return admm_l1_rec_diag(y, self.OpA, self.OpTV, x0, z0, lam, rho, iter=iter, silent=True)[0]

    def perturb(self, y0, noise_rel, loss=complexMSE, iter=30, init=None, method="l1"):
        """Samples y0 (..., 2, m) perturbed by projected Adam within noise_rel ||y0||, to maximise `loss`."""
        if noise_rel == 0:
            return y0
        if init is None:
            init = self.reconstruct_full(y0, noise_rel, self.rec_init_iter) if method == "l1" else (method(y0), None)
        x0, z0 = init
        if method == "l1":
            lam, rho = self.parameters(noise_rel)

            def method(y):
                return self.reconstruct_adv(y, lam, rho, x0, z0)

        level = noise_rel * torch.linalg.vector_norm(y0, dim=(-2, -1), keepdim=True)
        start = y0.detach() + 3 * level / math.sqrt(math.prod(y0.shape[-2:])) * torch.randn_like(y0)
        return untargeted_attack(
            method,
            start.requires_grad_(),
            y0,
            t_out_ref=x0,
            codomain_dist=loss,
            optimizer=PAdam,
            projs=[lambda y: proj_l2_ball(y, y0, level)],
            iter=iter,
            stepsize=5.0,
            silent=True,
        ).detach()

    def spatial_grid_attack(self, y0, noise_rel, width=1, n_locs=(1, 1), iter=20, method="l1"):
        """`perturb` with the `LocalLoss` of each location of `get_grid`: (*n_locs, ..., 2, m)."""
        init = self.reconstruct_full(y0, noise_rel, self.rec_init_iter) if method == "l1" else (method(y0), None)
        Yadv = y0.new_zeros(*n_locs, *y0.shape)
        for i, j in tqdm(list(torch.cartesian_prod(*map(torch.arange, n_locs))), desc="locations"):
            loc = get_grid(n_locs, self.OpA.n)[i, j]
            loss = LocalLoss(self.OpA.n, loc, width, device=y0.device)
            Yadv[i, j] = self.perturb(y0, noise_rel, loss=loss, iter=iter, init=init, method=method)
        return Yadv

    def spike_attack(self, y0, noise_rel, n_locs=(1, 1)):
        """y0 + eta A delta / ||A delta|| at each location of `get_grid`: (*n_locs, ..., 2, m)."""
        spikes = y0.new_zeros(*n_locs, 2, *self.OpA.n)
        for (i, j), (col, row) in zip(
            torch.cartesian_prod(*map(torch.arange, n_locs)),
            get_grid(n_locs, self.OpA.n).round().long().reshape(-1, 2),
            strict=True,
        ):
            spikes[i, j, 0, row, col] = 1
        e = self.OpA(spikes)
        e = e / torch.linalg.vector_norm(e, dim=(-2, -1), keepdim=True)
        e = e.reshape(*n_locs, *(y0.ndim - 2) * (1,), 2, self.m)
        return y0 + noise_rel * torch.linalg.vector_norm(y0, dim=(-2, -1), keepdim=True) * e


def _nearest(table, noise_rel):
    """(lam, rho) of the row of the level nearest to noise_rel."""
    nearest = min(range(len(table)), key=lambda k: abs(float(table.noise_rel[k]) - float(noise_rel)))
    return table.grid_param[nearest]["lam"], table.grid_param[nearest]["rho"]
