# SPDX-License-Identifier: MIT
"""Sparsifiers and their laws; sparse recovery, penalised and constrained: optimality, exact recovery, derivatives."""

import sys

import numpy as np
import pytest

import kspike
import laws
from conftest import assert_close, draw, draw_image, draw_mask, tolerance
from kspike import reference
from kspike.sparse import Identity, SparseSolver, Wavelet

SHAPES = [(1, 1), (1, 8), (6, 1), (2, 2), (8, 12), (16, 16), (5, 7), (1,), (7,), (24,)]
WAVELETS = ["haar", "db2", "db3", "db4", "sym4"]
PSIS = ["gradient", "identity", "haar", "db2"]
DOUBLE = 1e-12  # a few hundred additions of numbers around one, in double


@pytest.fixture(autouse=True)
def _pywt():
    pytest.importorskip("pywt", reason="the wavelets' filters are PyWavelets': pip install 'kspike[wavelets]'")


# --- the sparsifiers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["identity", *WAVELETS])
def test_the_laws_of_an_orthogonal_sparsifier(rng, dtype, name, shape):
    """Psi*Psi = Psi Psi* = I; the filters are as long as 8 and wrap around axes of two."""
    psi = Identity(shape) if name == "identity" else Wavelet(shape, name)
    x, c = (a.astype(dtype) for a in draw(rng, 2, 3, *shape))
    assert psi(x).dtype == psi.adjoint(c).dtype == dtype and psi(x).shape == x.shape
    digits = 1e-10 if name == "sym4" else 0  # of the table that PyWavelets has of this filter
    laws.isometry(psi, x, tolerance("inner", dtype) + digits)
    laws.inverse(psi, psi.adjoint, x, tolerance("transform", dtype) + digits)
    laws.inverse(psi.adjoint, psi, c, tolerance("transform", dtype) + digits)
    laws.adjointness(psi, psi.adjoint, x, c, tolerance("inner", dtype))
    laws.linearity(psi, x, c, (2 - 1j, 0.5j), tolerance("inner", dtype))


@pytest.mark.parametrize("name", WAVELETS)
def test_a_level_is_that_of_pywavelets_up_to_a_shift(rng, name):
    """Periodized, on 32 numbers: where a filter begins is a convention, and so is the sign of the detail."""
    pywt = pytest.importorskip("pywt")
    x = draw(rng, 32)
    mine = np.split(Wavelet((1, 32), name, levels=1)(x[None])[0], 2)
    errors = []
    for offset in range(2):
        theirs = pywt.dwt(np.roll(x, offset), name, "periodization")
        errors.append(
            max(
                min(np.abs(own - sign * np.roll(other, k)).max() for sign in (1, -1) for k in range(16))
                for own, other in zip(mine, theirs, strict=True)
            )
        )
    assert min(errors) <= 1e-12


def test_haar_by_hand():
    x = np.array([[1, 3, 2, 2 + 4j]])
    one = np.array([[4, 4 + 4j, 2, 4j]]) / np.sqrt(2)
    found = Wavelet((1, 4), levels=1)(x)
    np.testing.assert_allclose(np.abs(found), np.abs(one), atol=DOUBLE)
    np.testing.assert_allclose(found[:, :2], one[:, :2], atol=DOUBLE)
    flat = Wavelet((8, 8))(np.ones((8, 8)))
    np.testing.assert_allclose(flat[0, 0], 8, atol=DOUBLE)
    assert np.abs(flat).sum() == pytest.approx(8)


@pytest.mark.parametrize(
    ("shape", "levels"), [((8, 12), 2), ((1, 24), 3), ((5, 8), 0), ((1, 1), 0), ((16, 1), 4)], ids=str
)
def test_levels_are_as_many_as_two_divides(shape, levels):
    assert Wavelet(shape).levels == levels
    with pytest.raises(ValueError, match=f"levels: expected at most {levels}"):
        Wavelet(shape, levels=levels + 1)


def test_wavelets_that_are_refused(monkeypatch):
    for name in ("bior2.2", "mexh", "db0"):
        with pytest.raises(ValueError, match="name: expected an orthogonal wavelet"):
            Wavelet((8, 8), name)
    monkeypatch.setitem(sys.modules, "pywt", None)
    with pytest.raises(ImportError, match=r"pip install 'kspike\[wavelets\]'"):
        Wavelet((8, 8))


# --- the penalised problem -------------------------------------------------------------------------------------------

LAM, SHAPE = 0.05, (8, 12)


def data(rng, shape, psi, noise=0.01):
    """A mask, samples (2, m) of images that psi makes sparse, and the size of the noise in them."""
    mask = draw_mask(rng, shape)
    if psi == "gradient":
        x = draw_image(rng, 2, shape)
    else:
        c = draw(rng, 2, *shape) * (rng.random((2, *shape)) < 0.1)
        x = c if psi == "identity" else Wavelet(shape, psi).adjoint(c)
    y = reference.Plan(mask).forward(x)
    e = noise * draw(rng, *y.shape)
    return mask, y + e, float(np.linalg.norm(e, axis=-1).max())


def solved(mask, y, psi, max_iterations=20000, **options):
    solver = SparseSolver(mask, psi, dtype="complex128", **options)
    return solver, solver.solve(y, max_iterations, 1e-10)


def norms(psi):
    return ("separable", "modulus", "isotropic") if psi == "gradient" else ("separable", "modulus")


CASES = [(psi, norm) for psi in PSIS for norm in norms(psi)]


@pytest.mark.parametrize(("psi", "norm"), CASES)
def test_the_minimiser_satisfies_the_subgradient_inclusion(rng, psi, norm):
    """p = -A*(A x - y) = Psi*q with |q| <= lam and <q, Psi x> = lam ||Psi x||_1: residuals, and by hand where tight."""
    mask, y, _ = data(rng, SHAPE, psi)
    solver, info = solved(mask, y, psi, lam=LAM, norm=norm)
    assert (info.residuals.primal <= 1e-6).all() and (info.residuals.dual <= 1e-8).all()
    if psi != "gradient":
        q = solver.psi(solver.A.adjoint(y - solver.A(info.x)))
        parts = np.stack([q.real, q.imag]) if norm == "separable" else np.abs(q)
        assert np.abs(parts).max() <= LAM * (1 + 1e-6)
        least = 0.5 * (np.abs(solver.A(info.x) - y) ** 2).sum(-1)
        for i in range(2):
            gap = info.objective[i] - least[i] - laws.inner(q[i], solver.psi(info.x[i]))
            assert abs(gap) <= 1e-6 * info.objective[i]
    for step in (1e-1, 1e-3):
        for other in step * draw(rng, 10, 2, *SHAPE):
            assert (
                solver.objective(info.x + other, y) >= info.objective * (1 - tolerance("inner", "complex128"))
            ).all()


@pytest.mark.parametrize("norm", norms("gradient"))
def test_with_the_gradient_it_is_tv(rng, norm):
    mask, y, _ = data(rng, SHAPE, "gradient")
    _, info = solved(mask, y, "gradient", lam=LAM, norm=norm)
    tv = kspike.TVSolver(mask, LAM, dtype="complex128", norm=norm)
    expected = tv.solve(y, 20000, 1e-11)
    assert np.abs(info.x - expected.x).max() <= 1e-6 * np.abs(expected.x).max()  # two stopping errors
    assert info.objective == pytest.approx(expected.objective, rel=1e-8)
    assert (info.certificate.gap <= 1e-6 * info.objective).all()


def test_history_and_state(rng):
    """The objective ends where it should; 30 + 27 iterations are 57, and the state given is not touched."""
    mask, y, _ = data(rng, SHAPE, "haar")
    solver = SparseSolver(mask, "haar", lam=LAM, dtype="complex128")
    once = solver.solve(y, 57, 0, history=True)
    assert [h.shape for h in once.history] == [(57, 2)] * 2
    assert once.history[1][-1, 1] == pytest.approx(once.objective[1]) and once.history[0][-1, 0] == 57
    first = solver.solve(y, 30, 0)
    for _ in range(2):
        np.testing.assert_array_equal(solver.solve(y, 27, 0, state=first.state).x, once.x)
    assert once.converged.tolist() == [False, False]
    alone = solver.solve(y[1], 57, 0)
    assert alone.x.shape == SHAPE and isinstance(alone.objective, float) and alone.iterations == 57
    np.testing.assert_array_equal(alone.x, once.x[1])
    assert solver.solve(y[:0]).x.shape == (0, *SHAPE)


@pytest.mark.parametrize("psi", PSIS)
def test_single_precision(rng, psi):
    """To the tolerance asked for: three times 1e-4 max|A* y|."""
    mask, y, _ = data(rng, SHAPE, psi)
    _, exact = solved(mask, y.astype("complex64").astype(complex), psi, lam=LAM)
    single = SparseSolver(mask, psi, lam=LAM)
    x = single(y.astype("complex64"))
    assert x.dtype == "complex64"
    assert np.abs(x - exact.x).max() <= 3e-4 * np.abs(single.A.adjoint(y.astype("complex64"))).max()


# --- the constrained problem -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("psi", "norm"), CASES)
def test_the_constrained_minimiser(rng, psi, norm):
    """Its misfit is eta, its residuals vanish, and no feasible neighbour is lower."""
    mask, y, eta = data(rng, SHAPE, psi)
    solver, info = solved(mask, y, psi, eta=eta, norm=norm)
    misfit = np.linalg.norm(solver.A(info.x) - y, axis=-1)
    assert np.abs(misfit - eta).max() <= 1e-7 * eta
    assert (info.residuals.primal <= 1e-6).all() and (info.residuals.dual <= 1e-5).all()
    for step in (1e-1, 1e-3):
        for other in step * draw(rng, 10, 2, *SHAPE):
            x = info.x + other
            d = solver.A(x) - y
            shrink = np.minimum(eta / np.linalg.norm(d, axis=-1, keepdims=True), 1)
            x = x - solver.A.adjoint((1 - shrink) * d)
            assert (solver.objective(x, y) >= info.objective * (1 - 1e-7)).all()


def test_a_ball_that_holds_zero_gives_zero(rng):
    mask, y, _ = data(rng, SHAPE, "identity")
    _, info = solved(mask, y, "identity", eta=2 * laws.norm(y))
    assert np.abs(info.x).max() <= 1e-8


def recoverable(rng, n, psi, sparsity, samples):
    """A complex signal with few jumps, spikes or coefficients, and a mask of random frequencies with the zero one."""
    at, v = rng.choice(n, sparsity, replace=False), draw(rng, sparsity)
    c = np.zeros(n, complex)
    c[at] = v - v.mean() if psi == "gradient" else v
    x = np.cumsum(c) if psi == "gradient" else c if psi == "identity" else Wavelet((n,), psi).adjoint(c)
    mask = np.zeros(n, bool)
    mask[n // 2] = True
    mask[rng.choice(n, samples, replace=False)] = True
    return x, mask


@pytest.mark.parametrize("norm", ["separable", "modulus"])
@pytest.mark.parametrize("psi", ["gradient", "identity", "haar", "db2"])
def test_exact_recovery(rng, psi, norm):
    """n = 256, 5 of them, 100 random frequencies: eta = 0 finds the signal, and with a spike added that one too."""
    x, mask = recoverable(rng, 256, psi, 5, 100)
    solver = SparseSolver(mask, psi, eta=0, norm=norm, dtype="complex128")
    for signal in (x, x + (np.arange(256) == 77) if psi != "haar" and psi != "db2" else 2 * x):
        info = solver.solve(solver.A(signal), 10000, 1e-9)
        assert info.converged and info.pairs >= info.iterations
        # proven: conjugate gradients to 1e-14 on a well-conditioned support, and a sum of 256 jumps
        assert np.abs(info.x - signal).max() <= 1e-10 * np.abs(signal).max()
        assert info.certificate.relative <= 1e-9
        assert info.residuals.primal <= 1e-10 and info.residuals.dual <= 1e-8
        again = solver.solve(solver.A(signal), 10000, 1e-9, state=info.state)
        assert again.iterations <= 20 and np.abs(again.x - signal).max() <= 1e-10 * np.abs(signal).max()


@pytest.mark.parametrize("psi", ["identity", "gradient"])
def test_exact_recovery_of_a_long_signal(rng, psi):
    """n = 65,536 from 1200 random frequencies, a fiftieth, for the l1 norm of section 5 of the paper."""
    x, mask = recoverable(rng, 65536, psi, 20, 1200)
    rec = SparseSolver(mask, psi, eta=0, norm="modulus", dtype="complex128")
    info = rec.solve(rec.A(x), tol=1e-6)
    assert info.converged and info.certificate.relative <= 1e-9
    assert np.abs(info.x - x).max() <= 1e-9 * np.abs(x).max()


@pytest.mark.parametrize("zero", [True, False], ids=["zero sampled", "zero not sampled"])
@pytest.mark.parametrize("psi", ["gradient", "identity", "haar"])
@pytest.mark.parametrize("options", [{"lam": 0.05}, {"eta": 0.3}, {"eta": 0}], ids=["lam", "eta", "exact"])
def test_a_signal_is_an_image_of_one_row(rng, psi, options, zero):
    """(n,) by NumPy's transform, (1, n) by the engine's: the same iteration, solution and certificate."""
    x, mask = recoverable(rng, 32, psi, 3, 14)
    mask[16] = zero
    flat, row = (SparseSolver(m, psi, rho=2.0, dtype="complex128", **options) for m in (mask, mask[None]))
    assert flat.backend == "numpy" and flat.A.shape == (32,)
    y = np.stack([flat.A(x), 2 * flat.A(x)])
    one, other = flat.solve(y, 57, 0), row.solve(y, 57, 0)
    assert one.x.shape == (2, 32)
    assert_close(one.x, other.x[:, 0], "transform", "complex128", scale=100 * np.abs(x).max())
    np.testing.assert_allclose(one.objective, other.objective, rtol=1e-10)
    one, other = flat.solve(y, 3000, 1e-10), row.solve(y, 3000, 1e-10)
    assert (one.certificate.gap <= 1e-5 * one.objective).all()
    assert (other.certificate.gap <= 1e-5 * other.objective).all()
    assert one.objective == pytest.approx(other.objective, rel=1e-5)
    g = draw(rng, 2, 32)
    flat_g, row_g = flat.vjp(y, iterations=30)[1](g), row.vjp(y, iterations=30)[1](g[:, None])
    assert_close(flat_g, row_g, "derivative", "complex128", scale=100 * np.abs(g).max())


@pytest.mark.parametrize("options", [{"lam": 0.05}, {"eta": 0.3}, {"eta": 0}], ids=["lam", "eta", "exact"])
@pytest.mark.parametrize(("psi", "norm"), CASES)
def test_the_certificate_is_a_bound(rng, psi, norm, options):
    """The dual value of a feasible field is below the least objective at any time, and after 800 iterations close."""
    mask, y, _ = data(rng, SHAPE, psi)
    solver = SparseSolver(mask, psi, norm=norm, dtype="complex128", **options)
    best = solver.solve(y, 800, 0)
    for iterations in (3, 30, 150):
        info = solver.solve(y, iterations, 0)
        proof, weight = info.certificate, options.get("lam", 1.0)
        for i in range(2):
            p = proof.p[i]
            moduli = [p.real, p.imag] if norm == "separable" else np.abs(p)
            moduli = np.sqrt((np.abs(p) ** 2).sum(0)) if norm == "isotropic" else moduli
            assert np.max(np.abs(moduli)) <= weight * (1 + 1e-12)
            lifted = solver.psi.adjoint(p)
            assert laws.norm(lifted - solver.A.adjoint(solver.A(lifted))) <= 1e-10 * (1 + laws.norm(lifted))
            q = solver.A(lifted)
            value = laws.inner(q, y[i]) - (
                0.5 * laws.norm(q) ** 2 if "lam" in options else options["eta"] * laws.norm(q)
            )
            assert value <= best.objective[i] * (1 + 1e-6) and proof.gap[i] >= info.objective[i] - value - 1e-9
    assert (best.certificate.gap <= 2e-2 * np.maximum(best.objective, 1e-6)).all()


@pytest.mark.parametrize("psi", ["gradient", "identity", "haar"])
def test_exact_recovery_has_the_value_of_the_linear_program(rng, psi):
    """min sum(s), -s <= Psi x <= s, A x = y on stacked real and imaginary parts, by scipy; recoverable or not."""
    optimize = pytest.importorskip("scipy.optimize")
    n = 24
    for samples in (5, 14):
        x, mask = recoverable(rng, n, psi, 3, samples)
        solver = SparseSolver(mask, psi, eta=0, dtype="complex128")
        A, units = laws.dense_fourier(mask[None]), [laws.unstack(u, (n,)) for u in np.eye(2 * n)]
        P = np.stack([laws.stack(solver.psi(u)) for u in units], axis=1)
        y, k = solver.A(x), len(P)
        bound = np.block([[P, -np.eye(k)], [-P, -np.eye(k)]])
        exact = optimize.linprog(
            np.r_[np.zeros(2 * n), np.ones(k)],
            A_ub=bound,
            b_ub=np.zeros(2 * k),
            A_eq=np.hstack([A, np.zeros((len(A), k))]),
            b_eq=laws.stack(y),
            bounds=[(None, None)] * (2 * n) + [(0, None)] * k,
        )
        info = solver.solve(y, 4000 if psi == "haar" else 20000, 1e-10)
        assert info.objective == pytest.approx(exact.fun, rel=1e-5)
        assert laws.norm(solver.A(info.x) - y) <= 1e-6 * laws.norm(y)


# --- the derivative, and the attack ----------------------------------------------------------------------------------


@pytest.mark.parametrize("constrained", [False, True], ids=["lam", "eta"])
@pytest.mark.parametrize(("psi", "norm"), CASES)
def test_vjp_by_finite_differences(rng, psi, norm, constrained):
    """25 unrolled iterations along random steps of 1e-7 and with one rho: no group of coefficients crosses."""
    mask, y, eta = data(rng, (6, 6), psi)
    # an image of noise alone would sit at a kink, 0 on the border of the ball
    options = {"eta": 0.9 * eta} if constrained else {"lam": LAM}
    solver = SparseSolver(mask, psi, norm=norm, rho=0.8, dtype="complex128", **options)
    g, h = draw(rng, 2, 6, 6), 1e-7
    x, pullback = solver.vjp(y, iterations=25)
    np.testing.assert_array_equal(x, solver.solve(y, 25, 0).x)
    gradient = pullback(g)
    for dy in draw(rng, 3, *y.shape):
        ends = [solver.solve(y + s * h * dy, 25, 0).x for s in (1, -1)]
        slope = laws.inner(g, ends[0] - ends[1]) / (2 * h)
        assert abs(slope - laws.inner(gradient, dy)) <= 1e-6 * laws.norm(g) * laws.norm(dy)


def test_vjp_with_the_gradient_is_that_of_tv(rng):
    """The same iteration from the same start, in the engine and here."""
    mask, y, _ = data(rng, SHAPE, "gradient")
    g = draw(rng, 2, *SHAPE)
    _, mine = SparseSolver(mask, lam=LAM, rho=0.4, relax=1.9, dtype="complex128").vjp(y, iterations=40)
    _, tv = kspike.TVSolver(mask, LAM, rho=0.4, relax=1.9, dtype="complex128").vjp(y, iterations=40)
    assert_close(mine(g), tv(g), "derivative", "complex128", scale=np.abs(g).max())


@pytest.mark.parametrize("options", [{"lam": 1e-2}, {"eta": 0.5}], ids=["lam", "eta"])
@pytest.mark.parametrize("psi", ["identity", "haar", "gradient"])
def test_the_attack_runs(psi, options):
    """Through the one protocol; a spike is what sparsity amplifies."""
    mask = kspike.radial_mask((16, 16), lines=7)
    rec = SparseSolver(mask, psi, norm="modulus", rho=0.2 if "lam" in options else None, **options)
    y = rec.A(kspike.ellipses((16, 16), seed=1).astype("complex64"))
    limited = type("Limited", (), {"A": rec.A, "vjp": lambda self, y: rec.vjp(y, iterations=60)})()
    found = kspike.attack(limited, y, noise=0.1, grid=(1, 1), radius=1, steps=4)
    assert np.isfinite(found.amplification) and found.artifact_max > 0
    assert laws.norm(found.perturbation) == pytest.approx(found.eta, rel=1e-5)


# --- what is refused -------------------------------------------------------------------------------------------------

MASK = np.ones((4, 6), bool)
Y = np.ones(24, "complex64")

REFUSED = {
    "both": (lambda: SparseSolver(MASK, lam=0.1, eta=0.1), TypeError, "lam, eta: expected exactly one of the two"),
    "neither": (lambda: SparseSolver(MASK), TypeError, "lam, eta: expected exactly one of the two"),
    "eta negative": (lambda: SparseSolver(MASK, eta=-1), ValueError, "eta: expected a number"),
    "isotropic identity": (
        lambda: SparseSolver(MASK, "identity", lam=0.1, norm="isotropic"),
        ValueError,
        "norm: expected one of separable, modulus for Identity",
    ),
    "another wavelet": (lambda: SparseSolver(MASK, "fourier", lam=0.1), ValueError, "orthogonal wavelet of PyWavelets"),
    "another shape": (lambda: SparseSolver(MASK, Identity((6, 4)), lam=0.1), ValueError, "psi: expected one of shape"),
    "double": (lambda: SparseSolver(MASK, lam=0.1)(Y.astype(complex)), TypeError, "y: expected complex64"),
    "NaN": (lambda: SparseSolver(MASK, lam=0.1)(Y * np.nan), ValueError, "y: expected finite"),
    "state of another": (
        lambda: SparseSolver(MASK, lam=0.1).solve(
            Y, state=SparseSolver(MASK, lam=0.1).solve(Y[None].repeat(2, 0)).state
        ),
        ValueError,
        "state: expected one of 1",
    ),
    "not orthogonal": (
        lambda: SparseSolver(MASK, type("Psi", (), {"shape": (4, 6), "tight": False})(), lam=0.1),
        ValueError,
        "psi: expected the gradient or an orthogonal transform",
    ),
    "an engine for signals": (
        lambda: SparseSolver(MASK[0], lam=0.1, backend="cpp"),
        ValueError,
        r"backend: expected None or 'numpy' for signals \(6,\), got 'cpp'",
    ),
    "cotangent": (
        lambda: SparseSolver(MASK, lam=0.1).vjp(Y, iterations=2)[1](np.ones((2, 4, 6), "c8")),
        ValueError,
        "g: expected",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_one_line(what):
    call, error, message = REFUSED[what]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_solve_that_did_not_arrive_says_so(rng):
    mask, y, _ = data(rng, SHAPE, "identity")
    with pytest.warns(UserWarning, match="SparseSolver did not converge") as caught:
        SparseSolver(mask, "identity", lam=LAM, rho=1e4, dtype="complex128")(y)
    assert len(caught) == 1 and caught[0].filename == __file__
