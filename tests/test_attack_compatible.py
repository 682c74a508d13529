# SPDX-License-Identifier: MIT
"""preset="paper": reconstruction and gradient are those of autograd through the textbook loop, steps those of Adam."""

import numpy as np
import pytest

import kspike
from conftest import draw_mask
from kspike.attack import PRESETS

torch = pytest.importorskip("torch")
SHAPE = (32, 40)


class Textbook:
    """The paper's ADMM in torch: three variables, separate real and imaginary parts, complex128."""

    def __init__(self, tv):
        n = tv.shape
        self.lam, self.rho, self.mask = tv.lam, tv.rho, torch.from_numpy(tv.A.mask.copy())
        rows, cols = (2 - 2 * np.cos(2 * np.pi * (np.arange(k) - k // 2) / k) for k in n)
        self.kernel = self.mask + self.rho * torch.from_numpy(rows[:, None] + cols)

    def F(self, x):
        return torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(x, (-2, -1)), norm="ortho"), (-2, -1))

    def F_inverse(self, k):
        return torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(k, (-2, -1)), norm="ortho"), (-2, -1))

    def adjoint(self, y):
        k = torch.zeros(self.mask.shape, dtype=torch.complex128)
        k[self.mask] = y
        return self.F_inverse(k)

    def D(self, x):
        return torch.stack([x.roll(-1, -2) - x, x.roll(-1, -1) - x])

    def D_adjoint(self, d):
        return d[0].roll(1, -2) - d[0] + d[1].roll(1, -1) - d[1]

    def shrink(self, v):
        def real(a):
            return torch.sign(a) * torch.relu(a.abs() - self.lam / self.rho)

        return torch.complex(real(v.real), real(v.imag))

    def run(self, y, z, iterations):
        """(x, z) after the iterations from z and u = 0."""
        u = torch.zeros_like(z)
        for _ in range(iterations):
            x = self.F_inverse(self.F(self.adjoint(y) + self.rho * self.D_adjoint(z - u)) / self.kernel)
            z = self.shrink(self.D(x) + u)
            u = u + self.D(x) - z
        return x, z

    def judged(self, y, iterations):
        """(x, z) after the iterations from z = D A*y."""
        return self.run(y, self.D(self.adjoint(y)), iterations)


@pytest.fixture(params=["cpp", "numba"])
def problem(request, rng):
    pytest.importorskip({"cpp": "kspike._core", "numba": "numba"}[request.param])
    tv = kspike.TVSolver(kspike.radial_mask(SHAPE, 10), 4e-3, rho=0.1, dtype="complex128", backend=request.param)
    y = tv.A(kspike.ellipses(SHAPE, seed=3).astype(float))
    return tv, y, Textbook(tv)


def close(a, b, tol=1e-12):
    """max |a - b| <= tol max |b|."""
    b = b.detach().numpy() if isinstance(b, torch.Tensor) else b
    assert np.abs(a - b).max() <= tol * np.abs(b).max()


def test_the_reconstructions_are_the_textbook_s(problem):
    """What the loss compares with, 100 iterations, what is judged, here 300, and the attacked one, 50 from z_100."""
    tv, y, textbook = problem
    kept = tv.unrolled(y, evaluate=300)
    reference, z = textbook.judged(torch.from_numpy(y), 100)
    close(kept.reference, reference)
    close(kept.x, textbook.judged(torch.from_numpy(y), 300)[0])
    many, other = kept.repeat(2), np.stack([y, 1.02 * y])
    x, _ = many.vjp(other)
    for xi, yi in zip(x, other, strict=True):
        close(xi, textbook.run(torch.from_numpy(yi), z, 50)[0])
    close(many(other, max_iterations=1000)[1], textbook.judged(torch.from_numpy(other[1]), 300)[0])
    assert many.pairs.tolist() == [350, 350] and kept.pairs.tolist() == [0]


def test_the_gradient_is_autograd_s(problem, rng):
    """Of the paper's loss, the squared difference of moduli on a disk, to 1e-12: the same sums in another order."""
    tv, y, textbook = problem
    kept = tv.unrolled(y)
    e = 0.1 * (rng.standard_normal((y.size, 2)) @ (1, 1j))
    objective, area = PRESETS["paper"]["objective"], kspike.objectives.regions(SHAPE, None, [(12, 20)], 5, None)[1][0]
    x, pullback = kept.repeat(1).vjp((y + e)[None])
    value, g = objective.gradient(x[0], kept.reference, area)

    start, z = textbook.judged(torch.from_numpy(y), 100)
    leaf = torch.from_numpy(y + e).requires_grad_()
    x, _ = textbook.run(leaf, z, 50)
    loss = ((x.abs() - start.abs()).flatten()[torch.from_numpy(area[0])] ** 2).sum()
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-12)
    close(pullback(g[None])[0], leaf.grad)


def test_adam_is_torch_s(rng):
    """On real and imaginary parts, projected after each step, from outside of the ball."""
    mask = draw_mask(rng, (5, 7))
    A, eta = kspike.MaskedFourier(mask, dtype="complex128"), 0.7
    e = (rng.standard_normal((A.samples, 2)) @ (1, 1j))[None]
    move = kspike.Adam().moves(A, kspike.Ball(), eta)
    leaf = torch.from_numpy(e.view(float).copy()).requires_grad_()
    adam = torch.optim.Adam([leaf], lr=5.0, eps=1e-5)
    for _ in range(5):
        d = (rng.standard_normal((A.samples, 2)) @ (1e-3, 1e-3j))[None]
        e = move(e, d, 1.0)
        leaf.grad = -torch.from_numpy(d.view(float).copy())
        adam.step()
        leaf.data *= min(1.0, eta / float(leaf.data.norm()))
        close(e, leaf.detach().numpy().view(complex))


def test_the_preset_is_what_the_paper_says(problem):
    """30 steps of 50 + 50 pairs and the evaluation, for any reconstruction that can be unrolled."""
    tv, y, _ = problem
    found = kspike.attack(tv, y, noise=0.04, preset="paper", grid=(1, 2), final=200)
    assert found.pairs.tolist() == [[3200, 3200]]
    assert np.linalg.norm(found.perturbation) == pytest.approx(found.eta, rel=1e-12)
    spike = kspike.attack(tv, y, noise=0.04, steps=0, grid=(1, 2), final=400)
    assert (found.artifact_maxima > 0.5 * spike.artifact_maxima).all()
