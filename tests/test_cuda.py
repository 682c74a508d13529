# SPDX-License-Identifier: MIT
"""The CUDA engine without a GPU: its sources run on the fiber emulator, its Python on arrays like CuPy's (tests/cuda).

Every test of test_kernels, test_plan and test_norms that takes an engine runs here too, on the emulated one. Those
defined here add the sizes that have transforms of our own, the order of threads, races, planted faults, graphs, what
the host waits for, the public solver and attack, the bench, and the compiler.
"""

import concurrent.futures
import contextlib
import inspect
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import types

import arrays
import emulator
import exercise
import numpy as np
import nvrtc
import pytest

import kspike
import test_kernels
import test_norms
import test_plan
from conftest import Engine
from kspike import _backends, sweep
from kspike._backends import cuda_build, cuda_sources
from kspike.sweep.compute import compute

if shutil.which("g++") is None:
    pytest.skip("nothing of the CUDA engine is run: the emulator needs g++ (apt install g++)", allow_module_level=True)

SHAPES = [(64, 64), (128, 64), (64, 256), (7, 10), (1, 9)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Where the emulated libraries are built, each once."""
    return tmp_path_factory.mktemp("cuda")


@pytest.fixture(scope="session")
def emulated(folder):
    return emulator.engine(folder)


@pytest.fixture
def engine(emulated, dtype, monkeypatch):
    monkeypatch.setitem(sys.modules, "kspike._backends.cupy", emulated)
    return Engine("cupy", emulated, dtype, emulated.cupy)


norm = test_norms.norm


ELSEWHERE = {
    "test_threads_change_nothing",  # it has none
    "test_a_hundred_iterations_on_the_paper_s_problem",  # as many threads as all others together
    "test_the_solution_satisfies_the_subgradient_inclusion",  # thousands of iterations
}
for module in (test_kernels, test_plan, test_norms):
    for name, test in vars(module).items():
        if name.startswith("test_") and "engine" in inspect.signature(test).parameters and name not in ELSEWHERE:
            globals()[name] = test


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_everything_equals_reference(emulated, shape):
    """In double, to rounding: the kernels, the plan, and the parts of an attack step, on both kinds of passes."""
    errors = exercise.Exercise(emulated, shape).kernels().plan().attack_step().errors()
    assert max(errors.values()) < exercise.ROUNDING, errors


@pytest.mark.parametrize("norm", ["modulus", "isotropic"])
@pytest.mark.parametrize("shape", [(64, 128), (7, 10)], ids=str)
def test_joint_norms_equal_reference(emulated, shape, norm):
    errors = exercise.Exercise(emulated, shape).plan(norm).errors()
    assert max(errors.values()) < exercise.ROUNDING, errors


@pytest.mark.parametrize("norm", ["separable", "isotropic"])
def test_transforms_apart_from_the_stencils_equal_reference(folder, norm):
    """Where the shared memory does not suffice for the fused pass over rows: our transforms, one thread a pixel."""
    engine = emulator.engine(folder)
    with limited_memory(engine, 32 << 10):
        run = exercise.Exercise(engine, (64, 256)).plan(norm)
        plan = engine.Plan(run.mask, run.dtype, 1, norm)
    assert type(plan._passes).__name__ == "Pixelwise" and type(plan._fft).__name__ == "OwnFFT"
    assert max(run.errors().values()) < exercise.ROUNDING, run.errors()


def test_single_precision_equals_reference(emulated):
    """Its tape may differ in a few bits: what depends on it is held to the laws of test_plan only."""
    errors = exercise.Exercise(emulated, (64, 128), "complex64").kernels().plan().attack_step().errors()
    errors = {name: error for name, error in errors.items() if not name.startswith(("reverse", "tangent"))}
    assert max(errors.values()) < 2e-5, errors


def test_reverse_is_the_adjoint_of_the_frozen_iteration(emulated):
    """On the own passes: Re <g, dx> = Re <g_y, dy> + Re <g_w, dw> for a small step that crosses no threshold."""
    run, xp = exercise.Exercise(emulated, (64, 64), stop=None, batch=1), emulated.cupy
    plan, tape, g = emulated.Plan(run.mask, "complex128"), emulated.Tape(), run.x
    dy, dw = 1e-8 * run.draw(*run.y.shape), 1e-8 * run.draw(*run.w.shape)

    def solve(y, w, tape=None):
        x = run.fresh(run.x)
        plan.iterate(plan.state(run.put(w)), run.put(y), x, exercise.T, exercise.RHO, exercise.RELAX, 6, tape=tape)
        return xp.asnumpy(x)

    dx = solve(run.y + dy, run.w + dw) - solve(run.y, run.w, tape)
    y, w = run.fresh(run.y), run.fresh(run.w)
    plan.reverse(tape, run.put(g), y, w, exercise.RHO, exercise.RELAX)
    left, right = np.vdot(g, dx).real, np.vdot(y.get(), dy).real + np.vdot(w.get(), dw).real
    assert abs(left - right) <= 1e-6 * np.linalg.norm(g) * np.linalg.norm(dx)


@pytest.mark.parametrize("order", [1, 2])
def test_the_order_of_threads_changes_no_bit(emulated, folder, order):
    """0 ascending, 1 descending, 2 shuffled at every barrier."""
    other = emulator.engine(folder, order=order)
    for shape in (exercise.OWN, exercise.OTHER):
        one, two = (
            exercise.Exercise(e, shape, iterations=11).kernels().plan().attack_step() for e in (emulated, other)
        )
        joint = (exercise.Exercise(e, shape, iterations=11).plan("isotropic") for e in (emulated, other))
        for a, b in ((one, two), joint):
            for name, value in a.found.items():
                host = emulated.cupy.asnumpy
                np.testing.assert_array_equal(host(b.found[name]), host(value), err_msg=name)


def run_exercise(folder, sanitizer, *arguments):
    """exercise.py in a process into which the sanitizer is loaded: (exit status, what it printed)."""
    library, flags, settings = {
        "thread": ("libtsan.so", "-fsanitize=thread", {"TSAN_OPTIONS": "report_signal_unsafe=0"}),
        "address": (
            "libasan.so",
            "-fsanitize=address,undefined -fno-sanitize-recover=undefined",
            {"ASAN_OPTIONS": "detect_leaks=0"},
        ),
    }[sanitizer]
    path = subprocess.run(["g++", f"-print-file-name={library}"], capture_output=True, text=True).stdout.strip()
    if not pathlib.Path(path).is_absolute():
        pytest.skip(f"g++ has no {library}")
    command = [sys.executable, exercise.__file__, folder, f"--flags={flags}", *arguments]
    source = pathlib.Path(kspike.__file__).parents[1]
    environment = {**os.environ, **settings, "LD_PRELOAD": path, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("this sanitizer does not run on this kernel: sysctl vm.mmap_rnd_bits=28")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_sanitizers_find_nothing(folder, sanitizer):
    status, output = run_exercise(folder, sanitizer)
    assert status == 0, output
    assert "ThreadSanitizer" not in output, output


@pytest.mark.parametrize("fault", [fault for fault, (_, tool) in exercise.FAULTS.items() if tool != "address"])
def test_faults_give_wrong_results(folder, fault):
    engine = emulator.engine(folder, patch=exercise.FAULTS[fault][0])
    engine._trust = lambda *passes: None
    norm = "isotropic" if "joint" in fault else "separable"
    errors = exercise.Exercise(engine, exercise.OWN, batch=1, iterations=2, stop=None).plan(norm).errors()
    assert engine.compiler.patched
    assert max(errors.values()) > 1e-6


@pytest.mark.parametrize("fault", ["x is read before the rows beside it are there", "a shared index is off by a line"])
def test_faults_are_caught_by_a_sanitizer(folder, fault):
    _, output = run_exercise(folder, exercise.FAULTS[fault][1], f"--fault={fault}")
    assert "data race" in output or "heap-buffer-overflow" in output, output


def test_an_engine_that_computes_wrongly_refuses_to_go_on(folder):
    engine = emulator.engine(folder, patch=exercise.FAULTS["the row above the first is not the last"][0])
    for _ in range(2):
        with pytest.raises(RuntimeError, match="refusing to go on"):
            engine.Plan(np.ones(exercise.OWN, bool), "complex128")


# --- graphs, and what the host waits for -----------------------------------------------------------------------------


def problem(emulated, monkeypatch, backend="cupy", shape=(64, 64), batch=(), **options):
    """A solver on the emulated engine, or on another, and samples that live where it runs."""
    monkeypatch.setitem(sys.modules, "kspike._backends.cupy", emulated)
    mask = kspike.radial_mask(shape, lines=16)
    tv = kspike.TVSolver(mask, lam=5e-3, dtype="complex128", backend=backend, **options)
    x = np.broadcast_to(kspike.ellipses(shape, seed=0), (*batch, *shape)).astype("complex128", order="C")
    y = kspike.MaskedFourier(mask, dtype="complex128", backend="reference")(x)
    return tv, emulated.cupy.asarray(y) if backend == "cupy" else y


@contextlib.contextmanager
def counted():
    """What the host waited for inside, by kind, and the graphs that were launched: filled at the end."""
    found, before, graphs = {}, dict(arrays.syncs), arrays.Graph.launched
    yield found
    found |= {k: n - before.get(k, 0) for k, n in arrays.syncs.items() if n != before.get(k, 0)}
    found["graphs"] = arrays.Graph.launched - graphs


@contextlib.contextmanager
def limited_memory(engine, size):
    """The device has this much shared memory a block."""
    device = engine.cupy.cuda.Device
    before, device.attributes = device.attributes, {"MaxSharedMemoryPerBlockOptin": size}
    try:
        yield
    finally:
        device.attributes = before


@pytest.mark.parametrize("stop", [None, -1.0])
def test_graphs_change_no_bit(emulated, monkeypatch, stop):
    """A section is launched one by one at first, captured the second time, and the same graph serves the next solve."""
    run, found = exercise.Exercise(emulated, (64, 64), batch=2, stop=None), []
    stop = None if stop is None else np.full(2, stop)
    for small in (emulated.Plan.SMALL, 0):
        monkeypatch.setattr(emulated.Plan, "SMALL", small)
        plan, y, x = emulated.Plan(run.mask, run.dtype), run.put(run.y), run.fresh(run.x)
        state = plan.state(run.put(run.w))
        with counted() as count:
            plan.iterate(state, y, x, exercise.T, exercise.RHO, exercise.RELAX, 47, stop=stop)
        found.append((count["graphs"], x.get(), state.field().get()))
    (graphs, *one), (none, *other) = found
    assert (graphs, none) == (3, 0)  # of four sections of ten iterations; the seven that are left run once
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_warm_step_is_launches_of_graphs(emulated, monkeypatch):
    """Three iterations, three of the tangent: from the third time on, with the same arrays, a graph each."""
    run = exercise.Exercise(emulated, (64, 64), batch=1, stop=None)
    plan, y, x, dx = emulated.Plan(run.mask, run.dtype), run.put(run.y), run.fresh(run.x), run.fresh(run.x)
    state, tangent = plan.state(run.put(run.w)), plan.state(run.put(run.w))
    frozen = plan.freeze(state, exercise.T)
    counts = []
    for _ in range(6):
        with counted() as count:
            plan.iterate(state, y, x, exercise.T, exercise.RHO, exercise.RELAX, 3)
            plan.tangent(tangent, frozen, x, dx, exercise.RHO, exercise.RELAX, 3)
        counts.append(count)
    assert counts[4:] == [{"graphs": 2}] * 2  # an odd number of iterations: each of the two fields in its turn
    assert len(plan._sections) == 4


def test_a_new_batch_forgets_the_sections_of_the_old(emulated):
    """They hold addresses of scratch that is gone."""
    run = exercise.Exercise(emulated, (64, 64), batch=2, stop=None)
    plan, y, x = emulated.Plan(run.mask, run.dtype), run.put(run.y), run.fresh(run.x)
    plan.iterate(plan.state(run.put(run.w)), y, x, exercise.T, exercise.RHO, exercise.RELAX, 25)
    assert plan._sections
    plan.forward(run.put(run.x[:1]), run.fresh(run.y[:1]))
    assert not plan._sections


def test_sections_are_forgotten_in_the_order_of_their_use(emulated, monkeypatch):
    monkeypatch.setattr(emulated.Plan, "SECTIONS", 2)
    run = exercise.Exercise(emulated, (64, 64), batch=1, stop=None)
    plan, y, x = emulated.Plan(run.mask, run.dtype), run.put(run.y), run.fresh(run.x)
    state = plan.state(run.put(run.w))
    for t in (0.1, 0.2, 0.1, 0.3):
        plan.iterate(state, y, x, t, exercise.RHO, exercise.RELAX, 2)
    assert [key[0][1] for key in plan._sections] == [0.1, 0.3]


def test_a_fixed_number_of_iterations_waits_for_nothing(emulated, monkeypatch):
    """Nor do the other parts of an attack step."""
    run = exercise.Exercise(emulated, (64, 64), batch=1, stop=None)
    plan, y, x = emulated.Plan(run.mask, run.dtype), run.put(run.y), run.fresh(run.x)
    state, tape = plan.state(run.put(run.w)), plan.tape(1)
    gy, gw, dx, eta = run.fresh(run.y), run.fresh(run.w), run.fresh(run.x), run.put(np.ones(1))
    with counted() as count:
        plan.iterate(state, y, x, exercise.T, exercise.RHO, exercise.RELAX, 45)
        plan.iterate(state, y, x, exercise.T, exercise.RHO, exercise.RELAX, 5, tape=tape)
        plan.tangent(plan.state(run.put(run.w)), plan.freeze(state, exercise.T), x, dx, exercise.RHO, exercise.RELAX, 3)
        plan.reverse(tape, x, gy, gw, exercise.RHO, exercise.RELAX)
        emulated.momentum(y, plan.forward(dx, gy), 0.6, eta, gy)
        emulated.peak(x)
    assert count.keys() == {"graphs"}


def test_what_a_solve_waits_for(emulated, monkeypatch):
    """Twice to begin with (finite? how large?), once for how high x has come when the first leg is over, once a leg for
    what it found, once for how far x has moved where a leg of rest ends, and for looks that lie three back.
    """
    tv, y = problem(emulated, monkeypatch, batch=(2,))
    with counted() as count:
        info = tv.solve(y, max_iterations=200, tol=1e-9)
    legs = 20, 10, 40, 20, 20, 30, 30, 30  # the opening, to 70, turns of much and of rest, and no third: rest
    looks = sum(max(0, n // 10 - emulated.Plan.AHEAD) for n in legs)
    rests = 3  # since the first turn began
    assert count == {"float": 1, "tolist": 2 + rests, "get": 2 * len(legs), "event": looks, "graphs": count["graphs"]}
    assert info.iterations.tolist() == [200, 200]


def test_an_ended_solve_stops_the_host_three_looks_later(emulated):
    run = exercise.Exercise(emulated, (64, 64), batch=2, stop=(1e9, 1e9))
    plan, y, x = emulated.Plan(run.mask, run.dtype), run.put(run.y), run.fresh(run.x)
    with counted() as count:
        ended, _ = plan.iterate(
            plan.state(run.put(run.w)), y, x, exercise.T, exercise.RHO, exercise.RELAX, 4000, stop=run.stop
        )
    assert ended.tolist() == [20, 20] and count["event"] == 2  # the first look compares with nothing, the second ends


def test_a_plan_is_ready_when_it_is_made(emulated):
    """Its constants are there, whatever stream comes next: the one wait of a plan after the first of its kind."""
    mask = np.ones((64, 64), bool)
    emulated.Plan(mask, "complex128")
    with counted() as count:
        emulated.Plan(mask, "complex128")
    assert count == {"stream": 1, "graphs": 0}


def test_stop_on_the_device_gives_results_there(emulated):
    run = exercise.Exercise(emulated, (7, 10), stop=(1e9, -1))
    plan, y, x = emulated.Plan(run.mask, run.dtype), run.put(run.y), run.fresh(run.x)
    arguments = y, x, exercise.T, exercise.RHO, exercise.RELAX, 23
    ended, change = plan.iterate(plan.state(run.put(run.w)), *arguments, stop=run.put(run.stop))
    assert isinstance(ended, emulated.cupy.ndarray) and ended.get().tolist() == [20, 23]
    assert isinstance(change, emulated.cupy.ndarray)


# --- the library on CuPy arrays --------------------------------------------------------------------------------------


def test_the_public_solver_equals_the_reference(emulated, monkeypatch):
    """Solve, certificate, residuals, vjp, implicit derivative, warm and its counts: all on device arrays."""
    found = []
    for backend in ("cupy", "reference"):
        tv, y = problem(emulated, monkeypatch, backend)
        host = emulated.cupy.asnumpy
        info = tv.solve(y, max_iterations=120, tol=1e-3)
        x, pullback = tv.vjp(y, iterations=11)
        warm = tv.warm(y)
        moved, back = warm.vjp(1.01 * y)
        gradient = back(moved)
        final = warm(y, max_iterations=30)
        assert isinstance(warm.pairs, np.ndarray) and warm.pairs.dtype == np.int64
        numbers = [info.objective, info.certificate.gap, info.residuals.primal, info.residuals.dual, warm.pairs[0]]
        fields = info.x, x, pullback(x), moved, gradient, final, info.state.field(), tv.A.adjoint(y)
        found.append(([float(n) for n in numbers], [host(f) for f in fields]))
    (numbers, fields), (expected, exact) = found
    np.testing.assert_allclose(numbers, expected, rtol=1e-6)
    for one, two in zip(fields, exact, strict=True):
        assert np.abs(one - two).max() < 1e-9 * np.abs(two).max()


def test_an_attack_equals_one_with_the_reference(emulated, monkeypatch):
    """Steps, evaluation, measures; no step waits for the device: five wait as often as two."""
    found, waits = [], []
    for backend, steps in (("cupy", 2), ("reference", 2), ("cupy", 5)):
        tv, y = problem(emulated, monkeypatch, backend)
        with counted() as count:
            result = kspike.attack(tv, y, noise=0.04, at=[(20, 30), (40, 9)], radius=2, steps=steps, final=20, batch=2)
        waits.append(sum(n for kind, n in count.items() if kind != "graphs"))
        found.append(result)
    mine, exact, _ = found
    assert mine.location == exact.location
    np.testing.assert_allclose(mine.amplifications, exact.amplifications, rtol=1e-9)
    tv, y = problem(emulated, monkeypatch)
    assert kspike.transfer([tv], [mine], y).amplifications.shape == (1, 1)
    np.testing.assert_allclose(mine.perturbation.get(), exact.perturbation, rtol=0, atol=1e-9 * mine.eta)
    assert waits[2] == waits[0]


def test_a_task_of_a_sweep_equals_one_with_the_reference(emulated, monkeypatch, tmp_path):
    """What `kspike.sweep` does on a GPU: arrays go there and come back, locations in a batch."""
    monkeypatch.setitem(sys.modules, "kspike._backends.cupy", emulated)
    source = {
        "images": [{"kind": "ellipses", "size": 64}],
        "masks": [{"kind": "radial", "lines": 16}],
        "noise": [0.04],
        "reconstructions": [{"kind": "tv", "lam": 5e-3}],
        "attack": {"steps": 1, "final": 4, "radius": 2},
        "grid": [1, 2],
        "keep": ["artifact"],
        "dtype": "complex128",
    }
    task = sweep.Specification(source).tasks()[0]
    found = [
        compute(task.id, task.description | {"backend": backend}, sweep.Store(tmp_path))[0]
        for backend in ("cupy", "reference")
    ]
    for name, value in found[0].items():
        assert isinstance(value, np.ndarray | np.generic), name
        np.testing.assert_allclose(value, found[1][name], rtol=1e-7, atol=1e-7, err_msg=name)


# --- the bench -------------------------------------------------------------------------------------------------------


def test_the_bench_runs_dry_and_goes_on_where_it_stopped(emulated, monkeypatch, tmp_path, capsys):
    """The same lines as on a GPU: a record after each part; what is there is kept; a part that fails is named."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[1] / "bench")
    monkeypatch.setitem(sys.modules, "kspike._backends.cupy", emulated)
    import gpu
    import gpu_parts

    monkeypatch.setattr(gpu, "emulated", lambda: emulated.cupy)
    monkeypatch.setattr(gpu_parts, "PARTS", {n: gpu_parts.PARTS[n] for n in ("copy", "torch", "table1", "sanitizer")})
    out = tmp_path / "record.json"
    assert gpu.main(["--dry", "--parts", "copy", "--out", str(out)]) == 0
    first = json.loads(out.read_text())["parts"]["copy"]
    assert gpu.main(["--dry", "--out", str(out)]) == 0
    record = json.loads(out.read_text())["parts"]
    assert record["copy"] == first and record["torch"].get("correct", True) and record["table1"]["correct"]
    monkeypatch.setitem(gpu_parts.PARTS, "copy", lambda setting: 1 / 0)
    assert gpu.main(["--dry", "--parts", "copy", "--out", str(out)]) == 1
    record = json.loads(out.read_text())["parts"]
    assert record["copy"]["error"] == "ZeroDivisionError: division by zero" and "table1" in record
    capsys.readouterr()
    assert gpu.main(["--dry", "--limit", "-1", "--out", str(out)]) == 1
    assert "copy: left for the next run" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        gpu.main(["--dry", "--parts", "coffee", "--out", str(out)])


def test_the_byte_model(monkeypatch):
    """Fused: what the two passes read and write once, and the sectors of the data; a full mask has all of them."""
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[1] / "bench")
    import gpu_parts

    assert gpu_parts.bytes_per_pixel(np.ones((64, 64), bool), "Fused", "OwnFFT") == 73
    assert gpu_parts.bytes_per_pixel(np.ones((64, 64), bool), "Pixelwise", "OwnFFT") == 105
    some = gpu_parts.bytes_per_pixel(kspike.radial_mask((256, 256), lines=40), "Fused", "OwnFFT")
    assert 67 <= some <= 71
    assert gpu_parts.bytes_per_pixel(np.ones((12, 10), bool), "Pixelwise", "CuFFT") == 153


# --- absence, breakage, limits ---------------------------------------------------------------------------------------


@pytest.fixture
def forgotten(monkeypatch):
    """kspike._backends.cupy is imported anew."""
    monkeypatch.delitem(sys.modules, "kspike._backends.cupy", raising=False)
    return monkeypatch


def test_without_cupy_the_engine_is_absent(forgotten):
    forgotten.setitem(sys.modules, "cupy", None)
    assert "cupy" not in _backends.available()
    with pytest.raises(ImportError, match=r"'cupy' is not installed: pip install 'kspike\[gpu\]'"):
        _backends.select("cupy")
    with pytest.raises(ImportError, match=r"no engine for cuda arrays is installed: pip install 'kspike\[gpu\]'"):
        _backends.select(device="cuda")


def test_a_broken_cupy_is_shown_and_hurts_nobody_else(forgotten, tmp_path):
    (tmp_path / "cupy.py").write_text("raise ImportError('libcuda.so.1: cannot open shared object file')\n")
    forgotten.syspath_prepend(tmp_path)
    forgotten.delitem(sys.modules, "cupy", raising=False)
    with pytest.raises(ImportError, match=r"cannot be imported: libcuda.so.1.*pip install --force-reinstall"):
        _backends.select("cupy")
    assert _backends.select().__name__ in ("kspike._backends.cpp", "kspike._backends.numba")


def test_without_a_device_the_plan_says_so(folder):
    engine = emulator.engine(folder)
    engine.cupy.is_available = lambda: False
    with pytest.raises(RuntimeError, match="finds no CUDA device"):
        engine.Plan(np.ones((4, 4), bool))


def test_arrays_of_another_device_are_refused(folder, rng):
    engine = emulator.engine(folder)
    engine.cupy.cuda.Device = lambda: arrays.Device(1)
    with pytest.raises(ValueError, match="expected the current device"):
        engine.grad(engine.cupy.ones((1, 4, 4), complex), engine.cupy.empty((1, 2, 4, 4), complex))


def test_numpy_arrays_never_reach_a_kernel(emulated):
    """They would be taken for something else: the engine itself refuses them, whoever forgot to."""
    with pytest.raises(TypeError, match=r"expected one of CuPy, got one of NumPy of shape \(1, 4, 4\)"):
        emulated.grad(np.ones((1, 4, 4), complex), emulated.cupy.empty((1, 2, 4, 4), complex))


def test_what_runs_on_the_cpu_only_says_so(emulated, monkeypatch):
    tv, y = problem(emulated, monkeypatch)
    with pytest.raises(NotImplementedError, match="certify: expected a solver on the CPU, got backend 'cupy'"):
        kspike.certify(tv, y, eta=0.5, location=(20, 20))
    with pytest.raises(TypeError, match="y: expected a NumPy array, got a CuPy one"):
        kspike.SparseSolver(tv.A.mask, lam=5e-3, dtype="complex128").solve(y)


def test_too_large_a_batch_is_refused(emulated):
    shape = (65536, 1, 1)
    with pytest.raises(ValueError, match="at most 65535 images"):
        emulated.grad(emulated.cupy.ones(shape, complex), emulated.cupy.empty((65536, 2, 1, 1), complex))


def test_arrays_from_elsewhere_and_of_other_kinds_are_refused(emulated, monkeypatch):
    tv, y = problem(emulated, monkeypatch)
    with pytest.raises(TypeError, match="y: expected a CuPy array for backend 'cupy', got one of numpy"):
        tv(y.get())
    with pytest.raises(TypeError, match=r"y: expected complex128, got complex64: type y.astype\('complex128'\)"):
        tv(y.astype("complex64"))
    with pytest.raises(TypeError, match="array: expected a NumPy array for backend 'reference'"):
        kspike.kernels.grad(tv.A.adjoint(y), backend="reference")
    with pytest.raises(TypeError, match="out: expected a ndarray like the input"):
        tv.A(tv.A.adjoint(y), out=np.empty(y.shape, complex))


def test_arrays_come_and_go_through_dlpack(emulated):
    """What torch gives and takes: the memory is shared."""
    torch = pytest.importorskip("torch")
    x = emulated.cupy.ones((1, 4, 4), np.complex64)
    shared = torch.from_dlpack(x)
    shared[0, 1, 2] = 3
    out = emulated.grad(x, emulated.cupy.empty((1, 2, 4, 4), np.complex64))
    assert shared.data_ptr() == x.data.ptr and out.get()[0, 0, 0, 2] == 2


def test_sizes_choose_their_passes(folder):
    """Powers of two from 64 to 4096 run on our own transforms, fused with the stencils where shared memory allows."""
    engine = emulator.engine(folder)

    def chosen(*shape, dtype="complex64", norm="separable"):
        passes = engine.choose(shape, np.dtype(dtype), norm)
        return f"{type(passes).__name__} {type(getattr(passes, 'fft', None)).__name__}"

    for shape in ((64, 4096), (4096, 64), (1024, 512)):
        assert chosen(*shape) == "Fused OwnFFT" and chosen(*shape, norm="modulus") == "Pixelwise OwnFFT"
    for shape in ((32, 64), (64, 8192), (64, 96)):
        assert chosen(*shape) == "Pixelwise CuFFT"
    assert chosen(4096, 2048, dtype="complex128") == "Fused OwnFFT"
    assert chosen(64, 4096, dtype="complex128") == "Pixelwise OwnFFT"  # a line and its neighbours would not fit
    with limited_memory(engine, 163 << 10):  # compute capability 8.0
        assert chosen(4096, 4096) == "Fused OwnFFT" and chosen(4096, 4096, dtype="complex128") == "Pixelwise OwnFFT"
    with limited_memory(engine, 99 << 10):  # 8.6, 8.9
        assert chosen(256, 256) == "Fused OwnFFT" and chosen(256, 4096) == "Pixelwise OwnFFT"


# --- the compiler ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def compiler():
    """NVRTC."""
    try:
        return cuda_build.library("nvrtc")
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("capability", nvrtc.ARCHITECTURES)
def test_nvrtc_compiles_everything_without_spills(compiler, capability):
    configurations = list(cuda_sources.configurations(10 * capability))

    def compile_one(configuration):
        file, dtype, sizes = configuration
        return nvrtc.compile_report(compiler, file, dtype, sizes.defines, capability)

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(compile_one, configurations))
    for configuration, report in zip(configurations, reports, strict=True):
        assert report
        for name, (_, spilled, _) in report.items():
            assert not spilled, (name, configuration)


def test_the_engine_takes_what_was_built_ahead_of_time(compiler, tmp_path, monkeypatch):
    """A container of machine code for each capability and PTX, found by its very source, instead of compiling."""
    try:
        cuda_build.library("nvfatbin")
    except ImportError as error:
        pytest.skip(str(error))
    (path,) = cuda_build.build(tmp_path, lambda file, dtype, defines: (file, dtype) == ("kspace.cu", "complex64"))
    assert images(path.read_bytes()) == [("cubin", 80), ("cubin", 90), ("cubin", 100), ("PTX", 100)]
    monkeypatch.setattr(cuda_sources, "BUILT", tmp_path)
    assert cuda_sources.built("kspace.cu", "complex64", (), 90) == path
    assert cuda_sources.built("kspace.cu", "complex64", (), 75) is None  # nothing in it for that device
    assert cuda_sources.built("kspace.cu", "complex128", (), 90) is None
    loaded = []
    engine = emulator.engine(tmp_path)
    engine.cupy.RawModule = lambda **options: (
        loaded.append(options) or types.SimpleNamespace(get_function=lambda name: print)
    )
    engine.bind("kspace.cu", "gather", "complex64", (1,), (1,), ())
    engine.bind("kspace.cu", "gather", "complex128", (1,), (1,), ())
    assert loaded[0] == {"path": str(path)} and loaded[1].keys() == {"code", "options"}
    (tmp_path / "stale.fatbin").touch()
    cuda_build.build(tmp_path, lambda file, dtype, defines: False)
    assert not list(tmp_path.glob("*.fatbin"))


def images(container):
    """What a fatbin holds: (kind, compute capability) of each image, by the headers that CUDA's own tools write."""
    magic, _, header, size = struct.unpack_from("<IHHQ", container)
    assert magic == 0xBA55ED50 and header + size <= len(container)
    found, at = [], header
    while at < header + size:
        kind, _, length, room = struct.unpack_from("<HHIQ", container, at)
        (capability,) = struct.unpack_from("<I", container, at + 28)
        found.append(({1: "PTX", 2: "cubin"}[kind], capability))
        at += length + room
    return found


def test_nvcc_compiles_the_sources_too(tmp_path):
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    for file, dtype, sizes in cuda_sources.configurations(90):
        if dtype == "complex64" and dict(sizes.defines).get("KS_N", 256) == 256:
            source = tmp_path / file
            source.write_text(cuda_sources.source(file))
            command = [nvcc, *cuda_sources.options(dtype, sizes.defines), "-arch=sm_90", "-cubin", "-o", "out", source]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0 and "warning" not in done.stderr, done.stderr


def test_sources_are_device_code_only():
    for file in ("stencil.cu", "norms.cu", "kspace.cu", "reduce.cu", "cols.cu", "rows.cu", "lines.cu"):
        text = cuda_sources.source(file)
        assert "<<<" not in text and "#include" not in text


def test_the_emulated_engine_is_the_engine(emulated):
    assert isinstance(emulated, types.ModuleType)
    assert pathlib.Path(emulated.__file__) == pathlib.Path(_backends.__file__).parent / "cupy.py"
