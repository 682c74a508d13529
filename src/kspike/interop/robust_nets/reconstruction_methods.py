# SPDX-License-Identifier: MIT
"""`reconstruction_methods` of robust-nets: ADMM for 1/2 ||A x - y||^2 + lam ||W x||_1, real and imaginary part apart.

With `Fourier` and `TVAnalysisPeriodic`, `admm_l1_rec_diag` is one call of the compiled iteration, and its gradient one
call of the exact reverse sweep, at 4 bits per pixel and iteration.
"""

from __future__ import annotations

import itertools
import time

import numpy as np
import torch
from tqdm import tqdm

from kspike.interop.arrays import export, native
from kspike.interop.robust_nets.operators import CGInverterLayer, Fourier, TVAnalysisPeriodic, l2_error, shrink

__all__ = ["admm_l1_rec", "admm_l1_rec_diag", "grid_search"]

LOOKS = 20  # how often a progress bar is drawn anew in the course of a compiled solve


def admm_l1_rec_diag(y, OpA, OpW, x0, z0, lam, rho, iter=20, silent=False):
    """(x, z) after `iter` plain ADMM iterations from z = z0, u = 0; x0 counts for iter = 0 only.

    x = (A*A + rho W*W)^-1 (A*y + rho W*(z - u)),   z = shrink(W x + u, lam / rho),   u = u + W x - z

    y : (..., 2, m); x0 : (..., 2, n1, n2); z0 : (..., 2, 2 n1 n2), each with the leading dimensions of y
    OpA, OpW : `Fourier` and `TVAnalysisPeriodic` run compiled; others need `tikh` and `get_fourier_kernel`, and run as
        a loop of torch operations
    silent : no progress bar
    """
    if iter < 1:
        return x0.clone(), z0.clone()
    if isinstance(OpA, Fourier) and isinstance(OpW, TVAnalysisPeriodic):
        return _compiled(y, OpA, OpW, z0, float(lam), float(rho), iter, silent)
    kernel = OpW.get_fourier_kernel()
    return _loop(y, OpA, OpW, x0, z0, lam, rho, iter, silent, lambda rhs, x: OpA.tikh(rhs, kernel, rho))


def admm_l1_rec(y, OpA, OpW, x0, z0, lam, rho, iter=20, silent=False, timeout=None):
    """The same for any OpA and OpW: the x-update by up to 200 conjugate gradient steps, to 1e-6, from the last x.

    timeout : seconds after which what there is is returned
    """
    inverter = CGInverterLayer(
        x0.shape[1:], lambda x: OpA.adj(OpA(x)) + rho * OpW.adj(OpW(x)), rtol=1e-6, atol=0.0, maxiter=200
    )
    return _loop(y, OpA, OpW, x0, z0, lam, rho, iter, silent, inverter, timeout)


def grid_search(x, y, rec_func, grid):
    """The parameters of rec_func(y, **parameters) with the smallest mean relative error: (parameters, error, errors).

    grid : {name: values}; errors has one dimension per name
    """
    shape = [len(values) for values in grid.values()]
    best, least, errors = None, np.inf, torch.zeros(shape)
    with tqdm(total=errors.numel(), desc="grid search") as bar:
        for index, values in zip(np.ndindex(*shape), itertools.product(*grid.values()), strict=True):
            parameters = dict(zip(grid, values, strict=True))
            errors[index] = l2_error(rec_func(y, **parameters), x, relative=True, squared=False)[0]
            if errors[index] < least:
                best, least = parameters, errors[index]
            bar.set_postfix(least=float(least))
            bar.update()
    return best, least, errors


def _loop(y, OpA, OpW, x0, z0, lam, rho, iter, silent, solve, timeout=None):
    x, z, u = x0.clone(), z0.clone(), torch.zeros_like(z0)
    start, data = time.monotonic(), OpA.adj(y)
    bar = tqdm(range(iter), desc="ADMM iterations", disable=silent)
    for _ in bar:
        if timeout is not None and time.monotonic() > start + timeout:
            break
        x = solve(data + rho * OpW.adj(z - u), x)
        w = OpW(x) + u
        z = shrink(w, lam / rho)
        u = w - z
        if not silent:
            with torch.no_grad():
                bar.set_postfix(loss=_objective(x, y, OpA, OpW, lam))
    return x, z


def _objective(x, y, OpA, OpW, lam):
    data = 0.5 * (OpA(x) - y).pow(2).sum(dim=(-2, -1))
    return float((data + lam * OpW(x).abs().sum(dim=(-2, -1))).mean())


def _compiled(y, OpA, OpW, z0, lam, rho, iter, silent):
    if tuple(OpA.n) != tuple(OpW.n):
        raise ValueError(f"OpW: expected an operator on images {tuple(OpA.n)}, got one on {tuple(OpW.n)}")
    z0 = z0.to(y.dtype).broadcast_to(*y.shape[:-1], z0.shape[-1])
    with tqdm(total=iter, desc="ADMM iterations", disable=silent) as bar:

        def look(x, count):
            if not silent:
                bar.set_postfix(loss=_objective(x, y.detach(), OpA, OpW, lam))
                bar.update(count)

        return _ADMM.apply(y, z0, OpA, OpW, lam, rho, iter, look)


class _ADMM(torch.autograd.Function):
    """The compiled iteration, (y, z0) -> (x, z), and its exact derivatives."""

    @staticmethod
    def forward(ctx, y, z0, OpA, OpW, lam, rho, iterations, look):
        A, t = OpA.plan(y), lam / rho
        engine, plan = A._engine, A._plan

        def images(x):
            return _channels(export(x.reshape(*y.shape[:-2], *A.shape), y), -3)

        samples = native(OpA.turned(_complex(y, -2)).reshape(-1, A.samples))
        z = native(_complex(z0, -2).reshape(-1, 2, *A.shape))
        # The first iteration by hand: with u = 0 its z is z0, and it leaves w = D x + 0.
        x, w = A.adjoint(samples), np.empty_like(z)
        x += rho * engine.grad_adjoint(z, np.empty_like(x))
        plan.resolvent(x.copy(), rho, out=x)
        state = plan.state(engine.grad(x, w))
        look(images(x), 1)
        tape = plan.tape(len(x)) if any(ctx.needs_input_grad[:2]) else None
        step = -(-iterations // LOOKS)
        for first in range(1, iterations, step):
            count = min(step, iterations - first)
            plan.iterate(state, samples, x, t, rho, 1.0, count, tape=tape)
            look(images(x), count)
        ctx.save_for_backward(y, z0)
        ctx.set_materialize_grads(False)
        ctx.problem, ctx.tape = (OpA, OpW, lam, rho, iterations), tape
        z = engine.shrink(state.field(), t, w).reshape(*y.shape[:-2], -1)
        return images(x), _channels(export(z, y), -2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gx, gz):
        (y, z0), (OpA, _, _, rho, iterations) = ctx.saved_tensors, ctx.problem
        if gz is not None:  # nobody differentiates z; who does waits for torch
            return (*_by_torch(y, z0, gx, gz, *ctx.problem), *6 * (None,))
        A = OpA.plan(y)
        engine, plan = A._engine, A._plan
        g = native(_complex(gx, -3).reshape(-1, *A.shape))
        gy, w, r = np.empty_like(g, shape=(len(g), A.samples)), np.empty_like(g, shape=(len(g), 2, *A.shape)), g.copy()
        if iterations > 1:
            plan.reverse(ctx.tape, g, gy, w, rho, 1.0)
            engine.grad_adjoint(w, r)  # the first iteration's x is seen through w = D x only
        else:
            gy[...] = 0
        plan.resolvent(r.copy(), rho, out=r)
        gy += A(r)
        gz0 = rho * engine.grad(r, w)
        gy = OpA.turned(export(gy.reshape(*y.shape[:-2], -1), y), back=True)
        return _channels(gy, -2), _channels(export(gz0.reshape(*y.shape[:-2], -1), y), -2), *6 * (None,)


def _by_torch(y, z0, gx, gz, OpA, OpW, lam, rho, iterations):
    """The cotangents of y and z0 from those of x and z, through the loop of torch operations."""
    y, z0 = y.detach().requires_grad_(), z0.detach().requires_grad_()
    kernel = OpW.get_fourier_kernel()
    with torch.enable_grad():
        x, z = _loop(y, OpA, OpW, OpA.adj(y), z0, lam, rho, iterations, True, lambda rhs, x: OpA.tikh(rhs, kernel, rho))
        gx = torch.zeros_like(x) if gx is None else gx
        return torch.autograd.grad((x, z), (y, z0), (gx, gz))


def _complex(x, dim):
    """Channels as complex numbers, contiguous."""
    return torch.complex(*x.unbind(dim)).contiguous()


def _channels(x, dim):
    """Complex numbers as channels."""
    return torch.stack([x.real, x.imag], dim=dim)
