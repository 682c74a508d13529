# SPDX-License-Identifier: MIT
"""kspike under the names of robust-nets, localadvmri and troublesome_kernel: the numbers of the originals, and mends.

data/robust_nets.npz holds what the originals returned on the cases of robust_nets_cases.py, in float64, on torch 2.13
with a stand-in for the torch.fft call of 2020. Both sides are double: 1e-7 is far above what rounding does to forty
iterations or to four steps of Adam, and far below any difference of meaning.
"""

import itertools
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

import robust_nets_cases as cases
from conftest import DATA
from kspike.interop import robust_nets
from kspike.interop.robust_nets import (
    Fourier,
    GridAttack,
    LocalLoss,
    PAdam,
    RadialMaskFunc,
    TVAnalysisPeriodic,
    admm_l1_rec_diag,
    find_adversarial,
    learnable,
    localized,
    operators,
    proj_l2_ball,
    reconstruction_methods,
    rotate_real,
    troublesome_kernel,
)

FACTS = np.load(pathlib.Path(__file__).parent / "data" / "robust_nets.npz")


def merged(*parts):
    """The names of all parts, later ones over earlier ones, as install() puts them into one module."""
    return types.SimpleNamespace(**{name: getattr(part, name) for part in parts for name in part.__all__})


FAMILIES = {
    "robust-nets": merged(operators, learnable),
    "troublesome_kernel": merged(operators, troublesome_kernel),
}
INVERTER = {"robust-nets": "LearnableInverter", "troublesome_kernel": "LearnableInverterFourier"}


@pytest.fixture(autouse=True)
def double():
    """The originals follow torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def assert_as_recorded(family, found):
    """Every case equals what the original returned, to 1e-7 of its norm."""
    count = 0
    for name, value in found:
        expected = FACTS[f"{family}: {name}"]
        value = cases.kept(value)
        scale = np.linalg.norm(expected[np.isfinite(expected)]) if expected.dtype.kind == "f" else 1
        np.testing.assert_allclose(value, expected, rtol=0, atol=1e-7 * scale, err_msg=name)
        count += 1
    assert count


@pytest.mark.parametrize("family", FAMILIES)
def test_helpers_are_the_originals(family):
    assert_as_recorded(family, cases.helpers(FAMILIES[family]))


def test_helpers_of_robust_nets_alone(family="robust-nets"):
    assert_as_recorded(family, cases.pairs(FAMILIES[family]))


@pytest.mark.parametrize("family", FAMILIES)
def test_operators_are_the_originals(family):
    assert_as_recorded(family, cases.operators(FAMILIES[family], inverter=INVERTER[family]))


@pytest.mark.parametrize("family", FAMILIES)
def test_solves_are_the_originals(family):
    assert_as_recorded(family, cases.solves(FAMILIES[family], reconstruction_methods))


@pytest.mark.parametrize("family", FAMILIES)
def test_attacks_are_the_originals(family):
    assert_as_recorded(family, cases.attacks(FAMILIES[family], reconstruction_methods, find_adversarial))


def test_the_localized_attack_is_the_original():
    levels = {"noise_rel": [0.0, 0.05], "grid_param": [{"lam": 1e-4, "rho": 0.1}, {"lam": 0.02, "rho": 0.3}]}

    class Table(types.SimpleNamespace):
        def __len__(self):
            return len(self.noise_rel)

    experiment = GridAttack(cases.mask(FAMILIES["robust-nets"]), Table(**levels))
    names = {name: getattr(localized, name) for name in localized.__all__}
    names |= {name: getattr(experiment, name) for name in dir(experiment) if not name.startswith("_")}
    assert_as_recorded("localadvmri", cases.localized(types.SimpleNamespace(**names), experiment.OpA))


@pytest.mark.skipif(not DATA.is_dir(), reason="no shared data")
def test_the_sizes_people_use():
    inputs = np.load(DATA / "dropin_inputs.npz")
    found = cases.shared(FAMILIES["robust-nets"], reconstruction_methods, find_adversarial, inputs)
    assert_as_recorded("shared", found)


def test_masks_are_the_originals_bit_for_bit():
    for (n, lines), offset in zip(((16, 5), (15, 5), (33, 7)), (0, 0, 1), strict=True):
        expected = FACTS[f"robust-nets: mask {n} {lines} {offset}"]
        assert np.array_equal(RadialMaskFunc((n, n), lines, offset).mask, expected)
    for shape, lines in (((20, 31), 6), ((65, 50), 10)):
        drawn = RadialMaskFunc(shape, lines)
        assert np.array_equal(drawn.mask, FACTS[f"robust-nets: mask {shape} {lines}"])
        assert drawn((1, 1, *shape, 1)).shape == (1, 1, *shape, 1)


# --- what was mended -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [(5, 8), (1, 6), (7, 1), (2, 2), (1, 1)])
@pytest.mark.parametrize("family", FAMILIES)
def test_adjoints_on_any_size(family, n):
    ops = FAMILIES[family]
    A, W = ops.Fourier(torch.ones(1, 1, *n)), ops.TVAnalysisPeriodic(n)
    x = cases.numbers(1, 3, 2, *n)
    for operator in (A, W):
        y = cases.numbers(2, *operator(x).shape)
        # Sums of products in double: 1e-12 of their scale is some thousand roundings.
        torch.testing.assert_close((operator(x) * y).sum(), (x * operator.adj(y)).sum(), rtol=1e-12, atol=1e-12)
    # (W*W + 2)^-1 (W*W + 2) = 1: the kernel is that of W*W, at sizes 1 and 2 too.
    back = A.tikh(2 * (W.adj(W(x)) + x / 2), W.get_fourier_kernel(), 2.0)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-12)


def test_an_unsampled_zero_frequency_gives_numbers():
    sampled = cases.mask(FAMILIES["robust-nets"]).clone()
    sampled[..., 8, 8] = False
    A, W = Fourier(sampled), TVAnalysisPeriodic((16, 16))
    x = A.tikh(cases.numbers(3, 1, 2, 16, 16), W.get_fourier_kernel(), 0.5)
    assert torch.isfinite(x).all()
    # Where the system is singular the answer has no component: its mean is zero up to rounding.
    assert x.mean(dim=(-2, -1)).abs().max() < 1e-15
    y = A(x)
    found, _ = admm_l1_rec_diag(y, A, W, x, W(x), 0.01, 0.5, iter=20, silent=True)
    assert torch.isfinite(found).all()


def test_the_modulus_has_a_gradient_at_zero():
    x = torch.zeros(1, 2, 3, 3, requires_grad=True)
    (g,) = torch.autograd.grad(rotate_real(x).sum(), x)
    assert torch.equal(g, torch.zeros_like(g))


def test_a_radius_may_be_a_number():
    x, centre = cases.numbers(4, 3, 2, 9), torch.zeros(3, 2, 9)
    assert torch.equal(proj_l2_ball(x, centre, 0.5), proj_l2_ball(x, centre, torch.tensor(0.5)))
    # On the centre there is no direction to go, and nothing to divide by.
    assert torch.equal(proj_l2_ball(centre, centre, 0.0), centre)


def test_float64_needs_no_default_dtype():
    torch.set_default_dtype(torch.float32)
    A, W = Fourier(cases.mask(FAMILIES["robust-nets"])), TVAnalysisPeriodic((16, 16))
    x = cases.numbers(5, 1, 2, 16, 16)
    y = A(x)
    found, z = admm_l1_rec_diag(y, A, W, x, W(x), 0.05, 0.3, iter=30, silent=True)
    assert {y.dtype, A.adj(y).dtype, found.dtype, z.dtype} == {torch.float64}
    single, _ = admm_l1_rec_diag(y.float(), A, W, x, W(x.float()), 0.05, 0.3, iter=30, silent=True)
    assert single.dtype == torch.float32
    # Thirty iterations in single precision: 1e-5 of the norm is some eighty roundings.
    assert (single - found).norm() <= 1e-5 * found.norm()


def test_half_precision_is_refused():
    A = Fourier(cases.mask(FAMILIES["robust-nets"]))
    with pytest.raises(TypeError, match=r"expected a float32 or float64 tensor, got torch.float16"):
        A(torch.zeros(1, 2, 16, 16, dtype=torch.float16))


def test_local_loss_without_a_batch():
    x, y = cases.numbers(6, 2, 9, 9), cases.numbers(7, 2, 9, 9)
    loss = LocalLoss((9, 9), (2.0, 6.0), 3)
    assert torch.equal(loss(x, y), loss(x[None], y[None]))
    expected = sum(
        (x[:, i, j].norm() - y[:, i, j].norm()) ** 2
        for i, j in itertools.product(range(9), range(9))
        if (j - 2) ** 2 + (i - 6) ** 2 <= 1.5**2
    )
    torch.testing.assert_close(loss(x, y), expected)
    with pytest.warns(UserWarning, match="no pixel within"):
        LocalLoss((9, 9), (2.5, 6.5), 1)


def test_padam_evaluates_once_a_step():
    calls = []

    def loss(t):
        calls.append(1)
        return (t**2).sum()

    PAdam(loss, torch.ones(3, requires_grad=True), iter=7, silent=True)
    assert len(calls) == 7


# --- the derivatives, against the loop of torch operations -----------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("wanted", ["x", "z", "both"])
def test_compiled_derivatives_are_those_of_the_loop(family, wanted):
    ops = FAMILIES[family]
    A, W = ops.Fourier(cases.mask(ops, 15)), ops.TVAnalysisPeriodic((15, 15))

    class Loop:
        """W without its class: what runs as a loop of torch operations."""

        get_fourier_kernel, adj = staticmethod(W.get_fourier_kernel), staticmethod(W.adj)

        def __call__(self, x):
            return W(x)

    y, x = A(cases.numbers(8, 2, 2, 15, 15)).requires_grad_(), cases.numbers(9, 2, 2, 15, 15)
    z0 = W(x).requires_grad_()
    results = []
    for OpW in (W, Loop()):
        found = dict(zip("xz", admm_l1_rec_diag(y, A, OpW, x, z0, 0.05, 0.3, iter=12, silent=True), strict=True))
        value = sum((found[k] * cases.numbers(10, *found[k].shape)).sum() for k in "xz" if wanted in (k, "both"))
        results.append((found["x"], found["z"], *torch.autograd.grad(value, (y, z0))))
    for compiled, plain in zip(*results, strict=True):
        # Twelve iterations in double, there and back.
        torch.testing.assert_close(compiled, plain, rtol=0, atol=1e-12 * float(plain.detach().norm()))


@pytest.mark.parametrize("family", FAMILIES)
def test_operators_differentiate_twice(family):
    ops = FAMILIES[family]
    A = ops.Fourier(cases.mask(ops, 5, 2))
    x = cases.numbers(11, 1, 2, 5, 5).requires_grad_()
    y = A(x).detach().requires_grad_()
    for function, argument in ((A.dot, x), (A.adj, y)):
        assert torch.autograd.gradcheck(function, argument)
        assert torch.autograd.gradgradcheck(function, argument)


def test_the_progress_bar_shows_and_changes_nothing(capsys):
    A, W = Fourier(cases.mask(FAMILIES["robust-nets"])), TVAnalysisPeriodic((16, 16))
    x = cases.numbers(12, 1, 2, 16, 16)
    arguments = (A(x), A, W, x, W(x), 0.05, 0.3)
    silent = admm_l1_rec_diag(*arguments, iter=50, silent=True)[0]
    shown = admm_l1_rec_diag(*arguments, iter=50)[0]
    assert torch.equal(silent, shown)
    assert "50/50" in capsys.readouterr().err


# --- under the old names ---------------------------------------------------------------------------------------------

SCRIPT = """
import torch
from kspike.interop import robust_nets
robust_nets.install({family!r})
{imports}
OpA = Fourier(RadialMaskFunc((32, 32), 9).mask[None, None])
x = torch.rand(1, 2, 32, 32)
assert (OpA(OpA.adj(OpA(x))) - OpA(x)).norm() <= 1e-5 * x.norm()
print(Fourier.__module__)
"""
IMPORTS = {
    "robust-nets": "from operators import Fourier, Fourier_matrix, LearnableInverter, RadialMaskFunc, rotate_real\n"
    "from reconstruction_methods import admm_l1_rec, admm_l1_rec_diag, grid_search\n"
    "from find_adversarial import PAdam, PGD, err_measure_l2, grid_attack, untargeted_attack",
    "troublesome_kernel": "from operators import Fourier, LearnableInverterFourier, RadialMaskFunc, to_magnitude\n"
    "from reconstruction_methods import admm_l1_rec_diag\nfrom find_adversarial import PAdam, untargeted_attack",
    "troublesome_kernel_jfa": "from operators import Fourier, Fourier_matrix, MaskFromFile, RadialMaskFunc",
}


@pytest.mark.parametrize("family", IMPORTS)
def test_import_lines_stay(family):
    script = SCRIPT.format(family=family, imports=IMPORTS[family])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kspike.interop.robust_nets")


def test_install_gives_localadvmri_its_module(monkeypatch):
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    experiment = GridAttack(cases.mask(FAMILIES["robust-nets"]), lambda noise_rel: (0.05, 0.3))
    experiment.mask_name = "radial"
    robust_nets.install("localadvmri", experiment=experiment)
    module = sys.modules["config_grid_attack"]
    assert module.OpA is experiment.OpA
    assert module.perturb == experiment.perturb
    assert module.get_grid is localized.get_grid
    assert module.mask_name == "radial"


def test_install_comes_first(monkeypatch):
    monkeypatch.setitem(sys.modules, "operators", types.ModuleType("operators"))
    with pytest.raises(ImportError, match="operators is imported already"):
        robust_nets.install()
    with pytest.raises(ValueError, match="expected one of robust-nets"):
        robust_nets.install("robust_nets")
