# SPDX-License-Identifier: MIT
"""The CUDA engine without a GPU: its sources run on the fiber emulator, its Python on NumPy arrays (tests/cuda).

Every test of test_kernels and test_plan that takes an engine runs here too, on the emulated one. Those defined here add
the sizes that have transforms of our own, the order of threads, races, planted faults, an attack, and the compiler.
"""

import concurrent.futures
import inspect
import os
import pathlib
import shutil
import subprocess
import sys
import types

import emulator
import exercise
import numpy as np
import nvrtc
import pytest

import kspike
import test_kernels
import test_plan
from conftest import Engine
from kspike import _backends, sweep
from kspike._backends import cuda_sources
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
def engine(emulated, dtype):
    return Engine("emulated", emulated, dtype, np)


ELSEWHERE = {
    "test_threads_change_nothing",  # it has none
    "test_a_hundred_iterations_on_the_paper_s_problem",  # as many threads as all others together
}
for module in (test_kernels, test_plan):
    for name, test in vars(module).items():
        if name.startswith("test_") and "engine" in inspect.signature(test).parameters and name not in ELSEWHERE:
            globals()[name] = test


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_everything_equals_reference(emulated, shape):
    """In double, to rounding: the kernels, the plan, and the parts of an attack step, on both kinds of passes."""
    errors = exercise.Exercise(emulated, shape).kernels().plan().attack_step().errors()
    assert max(errors.values()) < exercise.ROUNDING, errors


def test_single_precision_equals_reference(emulated):
    """Its tape may differ in a few bits: what depends on it is held to the laws of test_plan only."""
    errors = exercise.Exercise(emulated, (64, 128), "complex64").kernels().plan().attack_step().errors()
    errors = {name: error for name, error in errors.items() if not name.startswith(("reverse", "tangent"))}
    assert max(errors.values()) < 2e-5, errors


def test_reverse_is_the_adjoint_of_the_frozen_iteration(emulated):
    """On the own passes: Re <g, dx> = Re <g_y, dy> + Re <g_w, dw> for a small step that crosses no threshold."""
    run = exercise.Exercise(emulated, (64, 64), stop=None, batch=1)
    plan, tape, g = emulated.Plan(run.mask, "complex128"), emulated.Tape(), run.x
    dy, dw = 1e-8 * run.draw(*run.y.shape), 1e-8 * run.draw(*run.w.shape)

    def solve(y, w, tape=None):
        x = np.empty_like(run.x)
        plan.iterate(plan.state(w), y, x, exercise.T, exercise.RHO, exercise.RELAX, 6, tape=tape)
        return x

    dx = solve(run.y + dy, run.w + dw) - solve(run.y, run.w, tape)
    y, w = np.empty_like(run.y), np.empty_like(run.w)
    plan.reverse(tape, g, y, w, exercise.RHO, exercise.RELAX)
    left, right = np.vdot(g, dx).real, np.vdot(y, dy).real + np.vdot(w, dw).real
    assert abs(left - right) <= 1e-6 * np.linalg.norm(g) * np.linalg.norm(dx)


@pytest.mark.parametrize("order", [1, 2])
def test_the_order_of_threads_changes_no_bit(emulated, folder, order):
    """0 ascending, 1 descending, 2 shuffled at every barrier."""
    other = emulator.engine(folder, order=order)
    for shape in (exercise.OWN, exercise.OTHER):
        one, two = (
            exercise.Exercise(e, shape, iterations=11).kernels().plan().attack_step() for e in (emulated, other)
        )
        for name, value in one.found.items():
            np.testing.assert_array_equal(two.found[name], value, err_msg=name)


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
    errors = exercise.Exercise(engine, exercise.OWN, batch=1, iterations=2, stop=None).plan().errors()
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


def test_an_attack_step_equals_one_with_the_reference(emulated, monkeypatch):
    """The public solver on this engine: a warm solve, its frozen gradient, momentum, projection, the next solve."""
    monkeypatch.setitem(sys.modules, "kspike._backends.emulated", emulated)
    monkeypatch.setitem(_backends.ENGINES, "emulated", ("cupy", ""))
    mask = kspike.radial_mask((64, 64), lines=16)
    found = []
    for backend in ("emulated", "reference"):
        tv = kspike.TVSolver(mask, lam=5e-3, dtype="complex128", backend=backend)
        y = tv.A(kspike.ellipses((64, 64), seed=0).astype("complex128"))
        warm = kspike.TVSolver.warm(tv, y)
        e = 0.04 * np.linalg.norm(y) / np.sqrt(y.size) * np.ones_like(y)
        x, pullback = warm.vjp(y + e)
        g = pullback(x)
        norm = np.linalg.norm(e) * np.ones(1)
        if backend == "emulated":
            e = emulated.momentum(e[None], g[None], 0.6, norm, np.empty_like(e[None]))
            e = emulated.normalise(e, norm, np.empty_like(e))[0]
        else:
            e = 0.6 * e + 0.4 * g * norm / np.linalg.norm(g)
            e *= norm / np.linalg.norm(e)
        x, _ = warm.vjp(y + e)
        found.append((e, x))
    for one, two in zip(*found, strict=True):
        assert np.abs(one - two).max() < 1e-9 * np.abs(two).max()


def test_a_task_of_a_sweep_equals_one_with_the_reference(emulated, monkeypatch, tmp_path):
    """What `kspike.sweep` does on a GPU: arrays go there and come back, locations in a batch."""
    monkeypatch.setitem(sys.modules, "kspike._backends.emulated", emulated)
    monkeypatch.setitem(_backends.ENGINES, "emulated", ("cupy", ""))
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
        for backend in ("emulated", "reference")
    ]
    for name, value in found[0].items():
        assert isinstance(value, np.ndarray | np.generic), name
        np.testing.assert_allclose(value, found[1][name], rtol=1e-7, atol=1e-7, err_msg=name)


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
    engine.cupy.cuda.Device = type("Other", (emulator.Device,), {"__eq__": lambda self, other: self is other})
    with pytest.raises(ValueError, match="expected the current device"):
        engine.grad(np.ones((1, 4, 4), complex), np.empty((1, 2, 4, 4), complex))


def test_too_large_a_batch_is_refused(emulated):
    shape = (65536, 1, 1)
    with pytest.raises(ValueError, match="at most 65535 images"):
        emulated.grad(np.ones(shape, complex), np.empty((65536, 2, 1, 1), complex))


def test_sizes_choose_their_passes(folder):
    """Powers of two from 64 to 4096 run on our own transforms where the device has the shared memory for them."""
    engine = emulator.engine(folder)

    def own(*shape, dtype="complex64"):
        return engine._Own.serves(shape, dtype)

    assert own(64, 4096) and own(4096, 64) and own(1024, 512) and own(4096, 2048, dtype="complex128")
    assert not own(32, 64) and not own(64, 8192) and not own(64, 96)
    assert not own(64, 4096, dtype="complex128")  # a line and its neighbours would not fit
    engine.cupy.cuda.Device.attributes = {"MaxSharedMemoryPerBlockOptin": 99 << 10}
    assert own(256, 256) and not own(256, 4096)


# --- the compiler ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capability", nvrtc.ARCHITECTURES)
def test_nvrtc_compiles_everything_without_spills(capability):
    library = nvrtc.library()
    if library is None:
        pytest.skip("no NVRTC: pip install nvidia-cuda-nvrtc==13.0.88")

    def compile_one(configuration):
        file, dtype, defines, _, _ = configuration
        return nvrtc.compile_report(library, file, dtype, defines, capability)

    configurations = list(nvrtc.configurations(capability))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(compile_one, configurations))
    for configuration, report in zip(configurations, reports, strict=True):
        assert report
        for name, (_, spilled, _) in report.items():
            assert not spilled, (name, configuration)


def test_nvcc_compiles_the_sources_too(tmp_path):
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        pytest.skip("no nvcc")
    for file, dtype, defines, _, _ in nvrtc.configurations(9):
        if dtype == "complex64" and dict(defines).get("KS_N", 256) == 256:
            source = tmp_path / file
            source.write_text(cuda_sources.source(file))
            command = [nvcc, *cuda_sources.options(dtype, dict(defines)), "-arch=sm_90", "-cubin", "-o", "out", source]
            done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
            assert done.returncode == 0 and "warning" not in done.stderr, done.stderr


def test_sources_are_device_code_only():
    for file in ("stencil.cu", "kspace.cu", "reduce.cu", "cols.cu", "rows.cu"):
        text = cuda_sources.source(file)
        assert "<<<" not in text and "#include" not in text


def test_the_emulated_engine_is_the_engine(emulated):
    assert isinstance(emulated, types.ModuleType)
    assert pathlib.Path(emulated.__file__) == pathlib.Path(_backends.__file__).parent / "cupy.py"
