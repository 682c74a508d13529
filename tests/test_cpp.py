# SPDX-License-Identifier: MIT
"""What is special to the C++ engine: instruction sets, threads, forks, its own transforms, its memory."""

import importlib.util
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from conftest import draw, draw_field, draw_mask
from kspike import reference

pytest.importorskip("kspike._core", reason="the C++ engine was not built")
from kspike._backends import cpp

HERE = cpp.LEVELS[: cpp.LEVELS.index(cpp.BEST) + 1]


def module_file(module, level):
    name = f"kspike.{module}" + ("" if level == "baseline" else f"_{level}")
    return pathlib.Path(importlib.util.find_spec(name).origin)


def problem(rng, shape, batch=1, dtype=np.complex64):
    """mask, y, w for a solve."""
    mask = draw_mask(rng, shape)
    y = draw(rng, batch, int(mask.sum())).astype(dtype)
    return mask, y, draw_field(rng, batch, shape, 0.3).astype(dtype)


def solve(mask, y, w, threads=1, iterations=12):
    plan = cpp.Plan(mask, y.dtype, threads)
    state = plan.state(w)
    x = np.empty((len(y), *mask.shape), y.dtype)
    plan.iterate(state, y, x, 0.3, 0.7, 1.9, iterations)
    return x


# --- instruction sets -------------------------------------------------------------------------------------------------

ONE_LEVEL = """
import sys, numpy as np
from kspike._backends import cpp
given = np.load(sys.argv[1])
mask, y, w = given["mask"], given["y"], given["w"]
plan = cpp.Plan(mask, y.dtype, 1)
x = np.empty((len(y), *mask.shape), y.dtype)
plan.iterate(plan.state(w), y, x, 0.3, 0.7, 1.9, 12)
d, z, a = np.empty_like(w), np.empty_like(w), np.empty_like(x)
cpp.grad(given["x"], out=d)
cpp.shrink_update(w, given["x"], 0.3, 1.9, out=z)
cpp.grad_adjoint(z, out=a)
np.savez(sys.argv[2], x=x, d=d, z=z, a=a, isa=cpp.ISA)
"""


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_levels_agree_and_the_single_kernels_to_the_bit(tmp_path, rng, dtype):
    mask, y, w = problem(rng, (48, 37), 2, dtype)
    np.savez(tmp_path / "in.npz", mask=mask, y=y, w=w, x=draw(rng, 2, 48, 37).astype(dtype))
    found = {}
    for level in HERE:
        out = tmp_path / f"{level}.npz"
        env = {**os.environ, "KSPIKE_ISA": level}
        subprocess.run([sys.executable, "-c", ONE_LEVEL, tmp_path / "in.npz", out], check=True, env=env)
        with np.load(out) as arrays:
            found[level] = {name: arrays[name] for name in arrays.files}
        assert str(found[level]["isa"]) == level
    eps = np.finfo(dtype).eps
    for level in HERE[1:]:
        for name in "dza":
            np.testing.assert_array_equal(found[level][name], found["baseline"][name])
        difference = np.abs(found[level]["x"] - found["baseline"]["x"]).max()
        # Twelve iterations of transforms that round differently, in an order of their own.
        assert difference <= 256 * eps * np.abs(found["baseline"]["x"]).max()


@pytest.mark.parametrize("asked", ["v5", "v2"])
def test_an_unknown_level_is_refused(asked):
    run = subprocess.run(
        [sys.executable, "-c", "import kspike._backends.cpp"],
        env={**os.environ, "KSPIKE_ISA": asked},
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert f"KSPIKE_ISA={asked}: expected one of baseline, v3, v4" in run.stderr


@pytest.mark.skipif(shutil.which("objdump") is None, reason="no objdump (binutils) to read the modules with")
@pytest.mark.skipif(len(HERE) == 1, reason="this processor has one level only")
@pytest.mark.parametrize(
    ("level", "foreign"),
    [("baseline", r"\sv[a-z0-9]+\s|%[yz]mm|%k[1-7]"), ("v3", r"%zmm|%k[1-7]|%xmm(1[6-9]|2\d|3[01])")],
)
@pytest.mark.parametrize(("module", "lines"), [("_core", 10_000), ("_kernels", 2_000)])
def test_no_instruction_outside_its_module(module, lines, level, foreign):
    """A processor that lacks a level must never meet one of its instructions in a module of a lower level."""
    text = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", module_file(module, level)], check=True, capture_output=True, text=True
    ).stdout
    code = [line for line in text.splitlines() if "\t" in line and not re.search(r"\b(verr|verw)\b", line)]
    assert len(code) > lines
    assert [line for line in code if re.search(foreign, line)] == []


# --- transforms -------------------------------------------------------------------------------------------------------

PI = 4 * np.arctan(np.longdouble(1))
LENGTHS = [*range(1, 131), 143, 187, 243, 250, 251, 256, 257, 289, 368, 384, 500, 509, 512, 625, 997, 1000, 1021, 1024]


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_transforms_of_every_length(rng, dtype):
    """Relative l2 error C u sqrt(log2 n): C <= 3, as a textbook transform has it, and C <= 1 at powers of two."""
    worst = {}
    for n in LENGTHS:
        mask = np.ones((n, 1), bool)
        x = draw(rng, 1, n, 1).astype(dtype)
        y = np.empty((1, n), dtype)
        cpp.Plan(mask, dtype, 1).forward(x, out=y)
        k = np.arange(n) - n // 2
        turns = np.outer(k, k) % n / np.longdouble(n)
        dft = np.exp(-2j * np.pi.real * turns.astype(np.clongdouble)) / np.sqrt(np.longdouble(n))
        exact = dft @ x[0, :, 0].astype(np.clongdouble)
        error = np.linalg.norm((y[0] - exact).astype(complex)) / np.linalg.norm(exact.astype(complex))
        worst[n] = float(error / (np.finfo(dtype).eps / 2) / np.sqrt(max(1, np.log2(n))))
    assert max(worst.values()) <= 3, max(worst.items(), key=lambda item: item[1])
    assert max(c for n, c in worst.items() if n & (n - 1) == 0) <= 1


# --- threads, forks, memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (5, 40), (64, 48), (100, 33)], ids=str)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_results_do_not_depend_on_threads(rng, shape, batch):
    mask, y, w = problem(rng, shape, batch)
    expected = solve(mask, y, w)
    for threads in (2, 3, 4):
        np.testing.assert_array_equal(solve(mask, y, w, threads), expected)


def test_derivatives_do_not_depend_on_threads(rng):
    mask, y, w = problem(rng, (70, 45))
    g = draw(rng, 1, 70, 45).astype(np.complex64)
    found = []
    for threads in (1, 3):
        plan = cpp.Plan(mask, "complex64", threads)
        state, tape, x = plan.state(w), plan.tape(1), np.empty_like(g)
        plan.iterate(state, y, x, 0.3, 0.7, 1.9, 9, tape=tape)
        cotangents = np.empty_like(y), np.empty_like(w)
        plan.reverse(tape, g, *cotangents, 0.7, 1.9)
        tangent, dx = plan.state(w), np.empty_like(g)
        plan.tangent(tangent, tape, g, dx, 0.7, 1.9, 5)
        found.append((x, *cotangents, dx, tangent.field()))
    for one, three in zip(*found, strict=True):
        np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_plan_is_shared_by_eight_threads(rng, threads):
    mask, y, w = problem(rng, (64, 48), 2)
    expected = solve(mask, y, w)
    plan = cpp.Plan(mask, "complex64", threads)
    found = [np.empty_like(expected) for _ in range(8)]

    def work(x):
        for _ in range(5):
            plan.iterate(plan.state(w), y, x, 0.3, 0.7, 1.9, 12)

    workers = [threading.Thread(target=work, args=(x,)) for x in found]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for x in found:
        np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("norm", ["separable", "isotropic"])
def test_eight_threads_at_once_in_every_method(rng, norm):
    """On one plan and on plans that come and go, with states, tapes and arrays of their own: the bits of one thread."""
    mask, y, w = problem(rng, (40, 33), 2)
    g = draw(rng, 2, 40, 33).astype(np.complex64)
    shared = cpp.Plan(mask, "complex64", 2, norm)

    def once(plan):
        state, tape, x = plan.state(w), plan.tape(2), np.empty_like(g)
        counts, change = plan.iterate(state, y, x, 0.3, 0.7, 1.9, 9, stop=np.full(2, 1e-3), tape=tape)
        cotangents, dx, z = (np.empty_like(y), np.empty_like(w)), np.empty_like(g), np.empty_like(w)
        plan.reverse(tape, g, *cotangents, 0.7, 1.9)
        tangent = state.copy()
        plan.tangent(tangent, plan.freeze(state, 0.3), g, dx, 0.7, 1.9, 5)
        cpp.shrink_update(w, x, 0.3, 1.9, out=z)
        samples, image = plan.forward(x, out=np.empty_like(y)), plan.resolvent(x, 0.7, out=np.empty_like(x))
        with pytest.raises(ValueError, match="expected"):
            plan.forward(x[:1], out=samples)
        return x, counts, change, *cotangents, dx, tangent.field(), z, samples, image, tape.steps

    expected = once(cpp.Plan(mask, "complex64", 1, norm))
    start, found, errors = threading.Barrier(8), [], []

    def work(own):
        try:
            start.wait(60)
            found.extend(once(cpp.Plan(mask, "complex64", 1, norm) if own else shared) for _ in range(5))
        except Exception as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(i % 2,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert errors == [] and len(found) == 40
    for results in found:
        for result, right in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, right)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 and later warn of every fork here
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_plan_with_threads_survives_a_fork(rng):
    mask, y, w = problem(rng, (64, 48))
    plan = cpp.Plan(mask, "complex64", 2)
    x = np.empty((1, 64, 48), np.complex64)
    plan.iterate(plan.state(w), y, x, 0.3, 0.7, 1.9, 12)

    def again(pipe):
        plan.iterate(plan.state(w), y, x, 0.3, 0.7, 1.9, 12)
        pipe.send_bytes(x.tobytes())

    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=again, args=(there,))
    child.start()
    assert here.poll(30), "the child did not answer"
    np.testing.assert_array_equal(np.frombuffer(here.recv_bytes(), np.complex64).reshape(x.shape), x)
    child.join(10)
    assert child.exitcode == 0
    plan.iterate(plan.state(w), y, x, 0.3, 0.7, 1.9, 12)  # and the parent's threads are still there


def run_elsewhere(code, *arguments):
    """What Python code prints in a process of its own, which may neither crash nor hang."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


SETTING = """
import os, signal, sys, threading, time
import numpy as np
from kspike._backends import cpp

mask, y, w = np.ones((64, 48), bool), np.ones((2, 64 * 48), np.complex64), np.zeros((2, 2, 64, 48), np.complex64)
plan = cpp.Plan(mask, "complex64", 2)

def solve(count, stop=None, batch=1):
    x = np.empty((batch, 64, 48), np.complex64)
    plan.iterate(plan.state(w[:batch]), y[:batch], x, 0.3, 0.7, 1.9, count, stop=stop)
    return x
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_plan_that_threads_are_using_survives_a_fork():
    """The child finds no lock that a thread of its parent holds."""
    code = """
at_work = [threading.Thread(target=lambda: [solve(50) for _ in range(200)]) for _ in range(3)]
for thread in at_work:
    thread.start()
for _ in range(20):
    child = os.fork()
    if not child:
        signal.alarm(10)
        solve(3)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "the child hung"
for thread in at_work:
    thread.join()
"""
    run_elsewhere(SETTING + code)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_a_handler_of_signals_may_use_the_plan_that_it_interrupts():
    code = """
class Ended(Exception):
    pass

def use(*_):
    found.append(solve(3))
    if len(found) == 3:
        raise Ended

expected, found = solve(3), []
signal.signal(signal.SIGALRM, use)
signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
try:
    solve(10_000_000)
except Ended:
    signal.setitimer(signal.ITIMER_REAL, 0)
assert len(found) == 3 and all(np.array_equal(x, expected) for x in found)
"""
    run_elsewhere(SETTING + code)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")
def test_an_interruption_is_answered_while_a_worker_has_the_last_image():
    code = """
class Ended(Exception):
    pass

def end(*_):
    raise Ended

signal.signal(signal.SIGALRM, end)
signal.setitimer(signal.ITIMER_REAL, 0.5)
start = time.monotonic()
try:
    solve(10_000_000, np.array([np.inf, -1]), 2)
except Ended:
    print(time.monotonic() - start)
"""
    assert float(run_elsewhere(SETTING + code)) < 1.5


def test_threads_that_cannot_be_started_are_an_error_each_time():
    code = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (2 << 30,) * 2)
plan = cpp.Plan(mask, "complex64", 1000)
for _ in range(2):
    try:
        solve(3)
    except RuntimeError as error:
        print(error)
"""
    lines = run_elsewhere(SETTING + code).splitlines()
    assert len(lines) == 2
    assert all(re.match(r"threads: expected 1000 threads, the system started \d+: ", line) for line in lines)


@pytest.mark.parametrize("iterations", [2**52, 2**54, 2**60, 2**63 - 1])
def test_a_tape_that_no_memory_holds_is_refused_and_stays_what_it_was(rng, iterations):
    mask, y, w = problem(rng, (64, 64))
    plan, g = cpp.Plan(mask, "complex64", 1), np.empty((1, 64, 64), np.complex64)
    tape = plan.tape(1)
    with pytest.raises(MemoryError):
        plan.iterate(plan.state(w), y, g, 0.3, 0.7, 1.9, iterations, tape=tape)
    plan.iterate(plan.state(w), y, g, 0.3, 0.7, 1.9, 5, tape=tape)
    assert tape.steps == [5]


def test_what_would_reach_outside_memory_is_refused(rng):
    mask, y, w = problem(rng, (8, 8))
    plan, x = cpp.Plan(mask, "complex64", 1), np.empty((1, 8, 8), np.complex64)
    with pytest.raises(ValueError, match="iterations: expected 0 or more"):
        plan.iterate(plan.state(w), y, x, 0.3, 0.7, 1.9, -1, tape=plan.tape(1))
    with pytest.raises(ValueError, match="threads: expected at least 1"):
        cpp.Plan(mask, "complex64", 0)
    between = np.empty(x.nbytes + 1, np.uint8)[1:].view(np.complex64).reshape(x.shape)
    with pytest.raises(ValueError, match="aligned"):
        plan.adjoint(y, out=between)


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="no /proc to read the memory from")
def test_a_state_is_one_field_and_one_spectrum(rng):
    """24 bytes a pixel in complex64, and at most a tenth more."""

    def resident():
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path("/proc/self/status").read_text())[1]) * 1024

    batch, n = 24, 384
    plan = cpp.Plan(np.ones((n, n), bool), "complex64", 1)
    w = draw_field(rng, 1, (n, n), 0.3).astype(np.complex64)
    first = plan.state(w)
    before = resident()
    states = [first.copy() for _ in range(batch)]
    assert resident() - before <= 1.1 * 24 * n * n * len(states)


def test_a_state_of_another_plan_is_refused(rng):
    mask, y, w = problem(rng, (8, 8))
    one, other = cpp.Plan(mask, "complex64", 1), cpp.Plan(mask, "complex64", 1)
    with pytest.raises(ValueError, match="of this plan"):
        other.iterate(one.state(w), y, np.empty((1, 8, 8), np.complex64), 0.3, 0.7, 1.9, 1)


def test_the_border_of_a_large_odd_problem(rng):
    """Groups, tiles and lanes that are all partly filled, many of them, against the specification."""
    mask, y, w = problem(rng, (75, 131), 1, np.complex128)
    plan, state = reference.Plan(mask), reference.State(w.copy())
    expected = np.empty((1, *mask.shape), complex)
    plan.iterate(state, y, expected, 0.3, 0.7, 1.9, 12)
    np.testing.assert_allclose(solve(mask, y, w, 2), expected, rtol=0, atol=1e-11 * np.abs(expected).max())
