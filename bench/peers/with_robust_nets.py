# SPDX-License-Identifier: MIT
"""The loop of robust-nets itself: KSPIKE_ROBUST_NETS is a checkout of github.com/jmaces/robust-nets. Its `operators`
need on PYTHONPATH a module `standin` that gives today's torch the call torch.fft(x, signal_ndim, normalized=) of 2020,
and packages that are only imported (pytorch_radon, torch_cg).
"""

import os
import subprocess
import sys

import numpy as np

FUNCTIONAL = "separable"
LADDER = False
SETTINGS = tuple({"rho": rho} for rho in (0.2, 0.15, 0.1, 0.07, 0.05, 0.3, 0.5, 0.7))


def versions():
    """The commit of the checkout."""
    command = ["git", "-C", os.environ["KSPIKE_ROBUST_NETS"], "rev-parse", "--short", "HEAD"]
    return {"robust-nets": subprocess.run(command, capture_output=True, text=True).stdout.strip()}


def _modules():
    where = os.environ.get("KSPIKE_ROBUST_NETS")
    if not where:
        raise ModuleNotFoundError("robust-nets: set KSPIKE_ROBUST_NETS to a checkout")
    import standin  # noqa: F401  before their code is imported

    sys.path.insert(0, os.path.join(where, "ellipses"))
    import operators
    import reconstruction_methods

    return operators, reconstruction_methods


def _problem(problem, dtype, threads):
    import torch

    operators, methods = _modules()
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float32 if np.dtype(dtype) == np.complex64 else torch.float64)
    A = operators.Fourier(torch.from_numpy(problem.mask)[None, None])
    W = operators.TVAnalysisPeriodic(problem.mask.shape)
    y = torch.from_numpy(np.stack([problem.y.real, problem.y.imag])[None]).to(torch.get_default_dtype())
    return A, W, y, methods.admm_l1_rec_diag


def loop(problem, dtype, threads, rho):
    """admm_l1_rec_diag from zero."""
    import torch

    A, W, y, solve = _problem(problem, dtype, threads)
    zero = torch.zeros_like(A.adj(y))

    def run(iterations, look=None):
        if look is not None:
            _watch(W, A, iterations, look)
        try:
            with torch.no_grad():
                x, _ = solve(y, A, W, zero, W(zero), problem.lam, rho, iter=iterations, silent=True)
        except StopIteration:
            return None
        return _image(x)

    return run


def _watch(W, A, iterations, look):
    """Look at each x: what tikh gives is the iterate."""
    plain, count = type(A).tikh, 0

    def tikh(rhs, kernel, rho):
        nonlocal count
        count += 1
        x = plain(A, rhs, kernel, rho)
        if look(count, _image(x)):
            raise StopIteration
        return x

    A.tikh = tikh


def _image(x):
    re, im = x[0].numpy()
    return re + 1j * im


def gradient(problem, dtype, threads, iterations, rho):
    """Autograd through their loop."""
    import torch

    A, W, y0, solve = _problem(problem, dtype, threads)
    g = A.adj(y0)
    z0 = torch.zeros_like(W(g))

    def run():
        y = y0.clone().requires_grad_()
        x, _ = solve(y, A, W, torch.zeros_like(g), z0, problem.lam, rho, iter=iterations, silent=True)
        (dy,) = torch.autograd.grad(x, y, g)
        re, im = dy[0].numpy()
        return re + 1j * im

    return run


CONTESTANTS = {"robust-nets": loop}
GRADIENTS = {"robust-nets": gradient}
