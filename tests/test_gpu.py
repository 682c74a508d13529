# SPDX-License-Identifier: MIT
"""The CUDA engine on a GPU. test_kernels and test_plan run there too, by the fixture `engine`; here is the rest.

Skipped where CuPy or a device is missing; tests/test_cuda.py runs the same engine without them.
"""

import exercise
import numpy as np
import pytest

import kspike
from conftest import ABSENCES, assert_close
from kspike import _backends, reference

pytestmark = pytest.mark.gpu
if ABSENCES["cupy"]:
    pytest.skip(f"nothing runs on a GPU: {ABSENCES['cupy']}", allow_module_level=True)

cupy = pytest.importorskip("cupy")
engine = _backends.select("cupy")
LENGTHS = [64, 128, 256, 512, 1024, 2048, 4096]


def solve(shape, dtype, iterations=3):
    """x of a few iterations on the GPU and by the reference, on data of a smooth image."""
    rng = np.random.default_rng(1)
    mask = rng.random(shape) < 0.4
    mask[tuple(slice(n // 2 - n // 16, n // 2 + n // 16 + 1) for n in shape)] = True
    exact, plan = reference.Plan(mask), engine.Plan(mask, dtype)
    image = np.cumsum(rng.standard_normal((1, *shape)), -1) / shape[1] + 0j
    y = exact.forward(image)
    w, expected = np.zeros((1, 2, *shape), complex), np.empty(image.shape, complex)
    exact.iterate(exact.state(w), y, expected, 0.01, 0.3, 1.9, iterations)
    x = cupy.empty(image.shape, dtype)
    plan.iterate(plan.state(cupy.asarray(w, dtype)), cupy.asarray(y, dtype), x, 0.01, 0.3, 1.9, iterations)
    return cupy.asnumpy(x), expected


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("axis", [0, 1])
def test_every_length_equals_reference(n, axis, dtype):
    shape = (n, 64) if axis == 0 else (64, n)
    assert_close(*solve(shape, dtype), "iterate", np.dtype(dtype))


def test_a_small_solve():
    """The one that compute-sanitizer is given."""
    assert_close(*solve((64, 128), "complex64"), "iterate", np.dtype("complex64"))


@pytest.mark.parametrize("shape", [(64, 64), (64, 256), (12, 10)], ids=str)
def test_everything_equals_reference(shape):
    run = exercise.Exercise(engine, shape)
    errors = run.kernels().plan().attack_step().errors()
    assert max(errors.values()) < exercise.ROUNDING, errors


@pytest.mark.parametrize("norm", ["modulus", "isotropic"])
@pytest.mark.parametrize("shape", [(64, 256), (12, 10)], ids=str)
def test_joint_norms_equal_reference(shape, norm):
    errors = exercise.Exercise(engine, shape).plan(norm).errors()
    assert max(errors.values()) < exercise.ROUNDING, errors


def test_graphs_change_no_bit(monkeypatch):
    run, found = exercise.Exercise(engine, (64, 128), stop=None), []
    for small in (engine.Plan.SMALL, 0):
        monkeypatch.setattr(engine.Plan, "SMALL", small)
        plan, y, x = engine.Plan(run.mask, run.dtype), run.put(run.y), run.fresh(run.x)
        plan.iterate(plan.state(run.put(run.w)), y, x, exercise.T, exercise.RHO, exercise.RELAX, 57)
        found.append(x.get())
    np.testing.assert_array_equal(*found)


def test_an_attack_equals_one_on_the_cpu():
    """The public attack, all of it, on CuPy arrays."""
    mask, found = kspike.radial_mask((64, 64), lines=16), []
    for backend, put in (("reference", np.asarray), ("cupy", cupy.asarray)):
        tv = kspike.TVSolver(mask, lam=5e-3, dtype="complex128", backend=backend)
        y = tv.A(put(kspike.ellipses((64, 64), seed=0).astype("complex128")))
        found.append(kspike.attack(tv, y, noise=0.04, at=[(20, 30), (40, 9)], radius=2, steps=3, final=20, batch=2))
    np.testing.assert_allclose(found[1].amplifications, found[0].amplifications, rtol=1e-9)


def test_the_caller_s_stream_is_used():
    """Waiting for that stream, and for no other, is enough."""
    mask = kspike.radial_mask((64, 64), lines=16)
    plan, x = engine.Plan(mask, "complex64"), cupy.ones((1, 64, 64), "complex64")
    y = cupy.zeros((1, int(mask.sum())), "complex64")
    expected = cupy.asnumpy(plan.forward(x, cupy.empty_like(y)))
    with cupy.cuda.Stream(non_blocking=True) as stream:
        plan.forward(x, y)
        stream.synchronize()
    np.testing.assert_array_equal(cupy.asnumpy(y), expected)


def test_torch_tensors_share_memory():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    x = torch.ones((1, 8, 8), dtype=torch.complex64, device="cuda")
    out = torch.empty((1, 2, 8, 8), dtype=torch.complex64, device="cuda")
    engine.grad(cupy.from_dlpack(x), cupy.from_dlpack(out))
    assert (out == 0).all()


def test_a_batch_solves_each_image_as_alone():
    """The public solver on CuPy arrays."""
    mask = kspike.radial_mask((128, 128), lines=24)
    tv = kspike.TVSolver(mask, lam=5e-3, backend="cupy")
    x = cupy.asarray(np.stack([kspike.ellipses((128, 128), seed=seed) for seed in range(3)]).astype("complex64"))
    y = tv.A(x)
    together = tv.solve(y, max_iterations=50, tol=0).x
    for i in range(3):
        alone = tv.solve(y[i], max_iterations=50, tol=0).x
        assert float(cupy.abs(alone - together[i]).max()) < 1e-5


def test_an_attack_on_4096_fits_and_runs():
    """One step of the power iteration: warm solve, tangent, momentum."""
    mask = kspike.radial_mask((4096, 4096), lines=160)
    tv = kspike.TVSolver(mask, lam=5e-3, backend="cupy")
    y = tv.A(cupy.asarray(kspike.ellipses((4096, 4096), seed=0).astype("complex64")))[None]
    plan, state, x = tv._plan, tv._zero(y), cupy.empty((1, 4096, 4096), "complex64")
    plan.iterate(state, y, x, tv.lam / tv.rho, tv.rho, tv.relax, 3)
    dx, g = cupy.empty_like(x), cupy.empty_like(y)
    plan.tangent(tv._zero(y), plan.freeze(state, tv.lam / tv.rho), x, dx, tv.rho, tv.relax, 3)
    engine.momentum(y, plan.forward(dx, g), 0.6, cupy.ones(1), g)
    assert bool(cupy.isfinite(g).all())
