# SPDX-License-Identifier: MIT
"""Conjugate gradients over a batch of images, as `operators.CGInverterLayer` of robust-nets has them."""

from __future__ import annotations

import math

import torch

__all__ = ["CGInverterLayer", "cg"]

INNER = (-3, -2, -1)


def cg(A, B, X0=None, M=None, *, rtol=1e-5, atol=0.0, maxiter=None):
    """X (batch, c, n1, n2) with A X = B, each image its own system, A symmetric positive definite, M ~ A^-1.

    Begun at X0, by default M B. Ends where every ||A X - B||_2 <= max(rtol ||B||_2, atol), or after maxiter iterations,
    by default 5 c n1 n2.
    """
    M = M or (lambda r: r)
    maxiter = 5 * math.prod(B.shape[1:]) if maxiter is None else maxiter
    bound = (rtol * _norm(B)).clamp(min=atol)
    X = M(B) if X0 is None else X0
    R = B - A(X)
    Z = P = M(R)
    rz = _dot(R, Z)
    for _ in range(maxiter):
        AP = A(P)
        alpha = _ratio(rz, _dot(P, AP))
        X, R = X + alpha * P, R - alpha * AP
        if (_norm(R) <= bound).all():
            break
        Z = M(R)
        rz, before = _dot(R, Z), rz
        P = Z + _ratio(rz, before) * P
    return X


class CGInverterLayer(torch.nn.Module):
    """X with A X = B, by `cg`; the derivative with respect to B is the same solve.

    shape : (1 or 2, n1, n2), without the batch; A_bmm, M_bmm : A and M of `cg`, on tensors (batch, *shape)
    """

    def __init__(self, shape, A_bmm, M_bmm=None, rtol=1e-5, atol=0.0, maxiter=None, verbose=False):
        super().__init__()
        self.shape = tuple(shape)
        self._solve = lambda B, X0: cg(A_bmm, B, X0, M_bmm, rtol=rtol, atol=atol, maxiter=maxiter)

    def forward(self, B, X0=None):
        """The solution for B (..., *shape), begun at X0."""
        flat = [None if v is None else v.reshape(-1, *self.shape) for v in (B, X0)]
        return _Solve.apply(*flat, self._solve).reshape(B.shape)


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, B, X0, solve):
        ctx.solve = solve
        return solve(B, X0)

    @staticmethod
    def backward(ctx, g):
        return _Solve.apply(g, None, ctx.solve), None, None


def _dot(a, b):
    return (a * b).sum(INNER, keepdim=True)


def _norm(a):
    return _dot(a, a).sqrt()


def _ratio(a, b):
    """The ratio a / b; 0 where b is, for an image that is solved already."""
    return torch.where(b == 0, 0, a / torch.where(b == 0, 1, b))
