# SPDX-License-Identifier: MIT
"""kspike.torch: PyTorch's own checks of operators and derivatives, agreement with NumPy, networks under attack."""

import copy
import pickle

import numpy as np
import pytest

import kspike
from conftest import draw, draw_mask

torch = pytest.importorskip("torch")
kt = pytest.importorskip("kspike.torch")
operators = pytest.importorskip("kspike.torch.operators")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The tests run side by side: more threads than cores would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SHAPES = [(6, 6), (5, 7), (4, 9)]  # even, odd, non-square
IMPORTING = "ignore:.*torch.jit.script_method:DeprecationWarning"  # PyTorch's compiler when it is first imported
EXACT = dict(max_iterations=100_000, tol=1e-10, gradient_tol=1e-9)


@pytest.fixture(params=SHAPES, ids=str)
def case(request, rng):
    """A mask, two complex128 images and their samples."""
    mask = draw_mask(rng, request.param)
    x = torch.from_numpy(draw(rng, 2, *request.param))
    return mask, x, kt.MaskedFourier(mask)(x)


def layers(mask):
    return [kt.TVLayer(mask, 0.05, **EXACT), kt.TVLayer(mask, 0.05, derivative="unrolled", iterations=25)]


def test_the_operators_are_those_of_numpy(case):
    mask, x, y = case
    A, D = kspike.MaskedFourier(mask, dtype="complex128"), kspike.Gradient(mask.shape)
    module = kt.MaskedFourier(mask)
    np.testing.assert_array_equal(y, A(x.numpy()))
    np.testing.assert_array_equal(module.adjoint(y), A.adjoint(y.numpy()))
    np.testing.assert_array_equal(kt.Gradient(mask.shape)(x), D(x.numpy()))
    d = D(x.numpy())
    np.testing.assert_array_equal(kt.Gradient(mask.shape).adjoint(torch.from_numpy(d)), D.adjoint(d))
    tv = kspike.TVSolver(mask, 0.05, dtype="complex128")
    np.testing.assert_array_equal(kt.TVLayer(mask, 0.05, **EXACT)(y), tv.solve(y.numpy(), 100_000, 1e-10).x)
    assert module(x.to(torch.complex64)).dtype == torch.complex64


def test_opcheck(case):
    """Schema, fake kernel, autograd and dynamic shapes, by PyTorch's own checker."""
    mask, x, y = case
    A, (implicit, unrolled) = kt.MaskedFourier(mask), layers(mask)
    x, y = x.requires_grad_(), y.requires_grad_()
    d = operators.gradient(x).detach().requires_grad_()
    checks = [
        (operators.masked_fourier, (x, A._bits, A.samples, 1)),
        (operators.masked_fourier_adjoint, (y, A._bits, *mask.shape, 1)),
        (operators.gradient, (x,)),
        (operators.gradient_adjoint, (d,)),
        (operators.total_variation, (y, implicit.lam, A._bits, *mask.shape, *implicit._options)),
        (operators.total_variation, (y, unrolled.lam, A._bits, *mask.shape, *unrolled._options)),
    ]
    for operator, arguments in checks:
        torch.library.opcheck(operator, arguments)
    _, w = operators.total_variation(y.detach(), implicit.lam, A._bits, *mask.shape, *implicit._options)
    for by_lam in (False, True):
        rest = (y.detach(), w, implicit.lam, A._bits, 0, 1e-9, "separable", 0.0, 1, by_lam)
        torch.library.opcheck(operators.total_variation_gradient, (x.detach(), *rest))


def test_the_derivatives_of_the_linear_operators(case):
    mask, x, y = case
    x, y = x.requires_grad_(), y.detach().requires_grad_()
    A, D = kt.MaskedFourier(mask), kt.Gradient(mask.shape)
    d = D(x).detach().requires_grad_()
    for operator, v in ((A, x), (A.adjoint, y), (D, x), (D.adjoint, d)):
        assert torch.autograd.gradcheck(operator, (v,), fast_mode=True)
        assert torch.autograd.gradgradcheck(operator, (v,), fast_mode=True)


def test_the_derivatives_of_total_variation(case):
    """Against central differences: atol is what a step of 1e-6 leaves of an answer solved to 1e-10."""
    mask, _, y = case
    y = y.detach().requires_grad_()
    for layer in layers(mask):
        assert torch.autograd.gradcheck(layer, (y,), eps=1e-6, atol=1e-4, fast_mode=True)
    layer = layers(mask)[0]
    lam = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)

    def of_lam(lam):
        return operators.total_variation(y.detach(), lam, layer._bits, *mask.shape, *layer._options)[0]

    assert torch.autograd.gradcheck(of_lam, (lam,), eps=1e-6, atol=1e-4)


def test_the_gradient_is_that_of_vjp(case):
    mask, x, y = case
    y = y.detach().requires_grad_()
    layer = kt.TVLayer(mask, 0.05, derivative="unrolled", iterations=25)
    layer(y).backward(x)
    expected = kspike.TVSolver(mask, 0.05, dtype="complex128").vjp(y.detach().numpy(), iterations=25)[1](x.numpy())
    np.testing.assert_array_equal(y.grad, expected)


@pytest.mark.filterwarnings(IMPORTING)
def test_compile_in_one_graph(case):
    """AOTAutograd traces forward and backward; a break of the graph would raise."""
    mask, x, y = case
    A = kt.MaskedFourier(mask)
    for layer in [*layers(mask), kt.TVLayer(mask, 0.05, learn=True, **EXACT)]:

        def loss(y, layer=layer):
            return (A(layer(y) + kt.Gradient(mask.shape).adjoint(operators.gradient(x))).abs() ** 2).sum()

        gradients = []
        torch.compiler.reset()  # or the loop over layers and shapes counts as too many recompilations of one function
        for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
            leaf = y.detach().requires_grad_()
            function(leaf).backward()
            gradients.append(leaf.grad)
        torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings(IMPORTING)
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex:UserWarning")
def test_compile_by_inductor(rng):
    mask = draw_mask(rng, (5, 7))
    A, layer = kt.MaskedFourier(mask), layers(mask)[0]
    y = torch.from_numpy(draw(rng, 2, A.samples))
    compiled = torch.compile(lambda y: A(layer(y)), fullgraph=True)
    torch.testing.assert_close(compiled(y), A(layer(y)), rtol=1e-12, atol=1e-12)


def test_vmap_is_the_batch(case):
    mask, x, y = case
    A, D = kt.MaskedFourier(mask), kt.Gradient(mask.shape)
    for function, v in ((A, x), (A.adjoint, y), (D, x), *((layer, y) for layer in layers(mask))):
        for dim in (0, v.ndim - 1):
            torch.testing.assert_close(torch.func.vmap(function, in_dims=dim)(v.movedim(0, dim)), function(v))
    leaf = y.detach().requires_grad_()
    layer = layers(mask)[0]
    torch.func.vmap(layer)(leaf).backward(x)
    other = y.detach().requires_grad_()
    layer(other).backward(x)
    torch.testing.assert_close(leaf.grad, other.grad)
    with pytest.raises(NotImplementedError, match="not over the mask or lam"):
        torch.func.vmap(lambda bits: operators.masked_fourier(x, bits, A.samples, 1))(A._bits.expand(2, -1))


def test_channels_are_the_parts(case):
    mask, x, y = case
    pairs = dict(channels=True)
    A, D, layer = kt.MaskedFourier(mask), kt.Gradient(mask.shape), layers(mask)[0]
    torch.testing.assert_close(kt.from_channels(kt.to_channels(x)), x)
    samples = torch.stack([y.real, y.imag], -2)
    torch.testing.assert_close(kt.MaskedFourier(mask, **pairs)(kt.to_channels(x)), samples)
    torch.testing.assert_close(kt.MaskedFourier(mask, **pairs).adjoint(samples), kt.to_channels(A.adjoint(y)))
    torch.testing.assert_close(kt.TVLayer(mask, 0.05, **pairs, **EXACT)(samples), kt.to_channels(layer(y)))
    d = kt.Gradient(mask.shape, **pairs)(kt.to_channels(x))
    torch.testing.assert_close(d, torch.stack([D(x).real, D(x).imag], -4))
    torch.testing.assert_close(kt.Gradient(mask.shape, **pairs).adjoint(d), kt.to_channels(D.adjoint(D(x))))


def test_what_may_not_enter(rng):
    mask = draw_mask(rng, (6, 5))
    A = kt.MaskedFourier(mask)
    with pytest.raises(TypeError, match=r"x: expected complex64 or complex128, got float32; .* channels=True"):
        A(torch.zeros(2, 6, 5))
    with pytest.raises(ValueError, match=r"x: expected shape \(\.\.\., 6, 5\), got \(5, 6\)"):
        A(torch.zeros(5, 6, dtype=torch.complex64))
    with pytest.raises(TypeError, match="mask: expected a NumPy bool array"):
        kt.MaskedFourier(np.ones((3, 3)))
    with pytest.raises(TypeError, match="iterations: expected a number of them for derivative='unrolled'"):
        kt.TVLayer(mask, 0.1, derivative="unrolled")
    with pytest.raises(ValueError, match="learn: lam has a derivative"):
        kt.TVLayer(mask, 0.1, learn=True, derivative="unrolled", iterations=3)
    with pytest.warns(UserWarning, match="recTV did not converge to tol = 1e-09 in 7 iterations"):
        kt.TVLayer(mask, 0.1, max_iterations=7, tol=1e-9)(A(torch.from_numpy(draw(rng, 6, 5))))


def test_other_norms_and_no_images(rng):
    mask = draw_mask(rng, (6, 5))
    y = kt.MaskedFourier(mask)(torch.from_numpy(draw(rng, 2, 6, 5)))
    for norm in ("modulus", "isotropic"):
        layer = kt.TVLayer(mask, 0.05, norm=norm, derivative="unrolled", iterations=15)
        assert torch.autograd.gradcheck(layer, (y.detach().requires_grad_(),), eps=1e-6, atol=1e-4, fast_mode=True)
        implicit = kt.TVLayer(mask, 0.05, norm=norm, **EXACT)
        assert torch.autograd.gradcheck(implicit, (y.detach().requires_grad_(),), eps=1e-6, atol=1e-4, fast_mode=True)
        lam = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)

        def of_lam(lam, layer=implicit):
            return operators.total_variation(y, lam, layer._bits, *mask.shape, *layer._options)[0]

        assert torch.autograd.gradcheck(of_lam, (lam,), eps=1e-6, atol=1e-4, fast_mode=True)
    assert layers(mask)[0](y[:0]).shape == (0, 6, 5)
    assert kt.MaskedFourier(mask)(torch.zeros(0, 6, 5, dtype=torch.complex64)).shape == (0, y.shape[-1])


def test_layers_are_copied_and_pickled(case):
    mask, x, y = case
    layer = kt.TVLayer(mask, 0.05, learn=True, **EXACT)
    assert list(layer.state_dict()) == ["log_lam"] and not kt.MaskedFourier(mask).state_dict()
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(y), layer(y))
    assert kt.MaskedFourier(torch.from_numpy(mask.copy()))(x).shape == y.shape


def test_lam_is_learned(rng):
    """A few steps towards the truth lower the error: the derivative points the right way."""
    mask, truth = kspike.radial_mask((32, 32), lines=9), torch.from_numpy(kspike.ellipses((32, 32))).to(torch.complex64)
    layer = kt.TVLayer(mask, 0.3, learn=True)
    y = kt.MaskedFourier(mask)(truth)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.5)
    errors = []
    for _ in range(5):
        optimiser.zero_grad()
        error = (layer(y) - truth).abs().square().sum()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[-1] < 0.5 * errors[0] and 0 < float(layer.lam.detach()) < 0.1


class Small(torch.nn.Module):
    """Zero-filling and two convolutions, one of them after a normalisation that training would change."""

    def __init__(self, mask):
        super().__init__()
        self.mask, self.A = mask, kt.MaskedFourier(mask)
        self.net = torch.nn.Sequential(
            torch.nn.Conv2d(2, 4, 3, padding=1),
            torch.nn.BatchNorm2d(4),
            torch.nn.Tanh(),
            torch.nn.Conv2d(4, 2, 3, padding=1),
        )

    def forward(self, y):
        x = self.A.adjoint(y)
        return x + kt.from_channels(self.net(kt.to_channels(x)))


class Channels(Small):
    def forward(self, y):
        return kt.to_channels(super().forward(torch.complex(y[:, 0], y[:, 1])))


@pytest.fixture
def small():
    torch.manual_seed(0)
    mask = kspike.radial_mask((24, 32), lines=9)
    net = Small(mask)
    rec = kt.Reconstruction(net, batch=3)
    return rec, rec.A(kspike.ellipses((24, 32)))


def test_a_network_is_a_reconstruction(small, rng):
    rec, y = small
    many = np.stack([y, 2 * y, -y, 1j * y]).astype(np.complex64)
    x, pullback = rec.vjp(many.reshape(2, 2, -1))
    assert x.shape == (2, 2, 24, 32) and x.dtype == np.complex64 and not rec.net.training
    np.testing.assert_allclose(x.reshape(4, 24, 32), np.stack([rec(v) for v in many]), rtol=0, atol=1e-5)
    g = draw(rng, 2, 2, 24, 32).astype(np.complex64)
    dy = draw(rng, 2, 2, y.size).astype(np.complex64)
    step = 1e-2  # of single precision: the quotient is good to about its square
    quotient = (rec(many.reshape(2, 2, -1) + step * dy) - rec(many.reshape(2, 2, -1) - step * dy)) / (2 * step)
    expected = np.vdot(quotient, g).real
    assert abs(np.vdot(dy, pullback(g)).real - expected) < 1e-2 * abs(expected)
    np.testing.assert_array_equal(pullback(g), pullback(g))
    torch.manual_seed(0)
    channels = kt.Reconstruction(Channels(rec.net.mask), rec.A, channels=True)
    np.testing.assert_allclose(channels(many), x.reshape(4, 24, 32), rtol=0, atol=1e-5)
    np.testing.assert_allclose(channels.vjp(many)[1](g.reshape(4, 24, 32)), pullback(g).reshape(4, -1), atol=1e-4)


def test_the_attack_takes_a_network_in_batches(small):
    rec, y = small
    found = kspike.attack(rec, y, noise=0.05, grid=(2, 2), steps=8)
    assert np.linalg.norm(found.perturbation) == pytest.approx(0.05 * np.linalg.norm(y), rel=1e-5)
    alone = kspike.attack(rec, y, noise=0.05, grid=(2, 2), steps=8, batch=1)
    np.testing.assert_allclose(found.artifact_maxima, alone.artifact_maxima, rtol=1e-3)
    seen = []
    kspike.attack(rec, y, noise=0.05, grid=(2, 1), callback=lambda *call: seen.append(call[-1]))
    assert (np.array(seen[-1]) > 1.1 * np.array(seen[0])).all()  # the objective of both locations, last and first step
    tv = kspike.TVSolver(rec.net.mask, 7e-3)
    crossed = kspike.transfer([rec, tv], [found, kspike.attack(tv, y, noise=0.05, grid=(2, 2))], y)
    assert crossed.artifact_maxima[0, 0] == pytest.approx(found.artifact_max, rel=1e-4)


def test_what_is_no_reconstruction(small):
    rec, y = small
    with pytest.raises(TypeError, match=r"net: expected a torch\.nn\.Module"):
        kt.Reconstruction(lambda y: y)
    with pytest.raises(TypeError, match="A: net has no attribute mask"):
        kt.Reconstruction(torch.nn.Identity())
    with pytest.raises(ValueError, match=r"net: expected images \(1, 24, 32\)"):
        kt.Reconstruction(torch.nn.Identity(), rec.A)(y)
    with pytest.raises(ValueError, match="g: expected shape"):
        rec.vjp(y)[1](np.zeros((2, 24, 32), np.complex64))
