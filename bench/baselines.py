# SPDX-License-Identifier: MIT
"""What kspike is timed against: a bare FFT and inverse FFT by each library here, and the textbook ADMM in array code.

Every contestant is made once, plans and buffers included, and is then a function of no arguments. `check` is the
largest error of its answer relative to the largest number of a reference in double precision.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable

import numpy as np

import kspike
from kspike import reference
from kspike._backends import select

LINES, NOISE, RELAX = 40, 0.04, 1.9
PLANNING_SECONDS = 20.0
TOLERANCE = 2e-5  # of complex64 after a few iterations; a pair is far below it


@dataclasses.dataclass
class Contestant:
    """`run()` does `count` units of work; `check()` measures its answer."""

    run: Callable
    check: Callable
    count: int = 1
    tolerance: float = TOLERANCE

    def checked(self):
        """The error of the answer; AssertionError if it is above the tolerance."""
        error = self.check()
        assert error <= self.tolerance, f"wrong answer: error {error:.2g}, tolerance {self.tolerance:.2g}"
        return error


def relative(actual, expected):
    """Largest difference over largest modulus expected."""
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def missing(module):
    """Why a contestant that needs this module cannot take part, or None."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return f"not installed: {error.name}"
    return None


# --- FFT + inverse FFT -----------------------------------------------------------------------------------------------


def _image(n):
    rng = np.random.default_rng(n)
    return (rng.standard_normal((n, n, 2)) @ (1, 1j)).astype("complex64")


def _pair(n, forward, inverse, a, b, run=None):
    """The contestant whose forward() fills b from a and whose inverse() restores a."""

    def check():
        before = a.copy()
        forward()
        error = relative(b, np.fft.fft2(before.astype(complex)))
        inverse()
        return max(error, relative(a, before))

    def both():
        forward()
        inverse()

    return Contestant(run or both, check)


def pair_numpy(n, threads):
    """NumPy's pocketfft, into given arrays."""
    a, b = _image(n), np.empty((n, n), "complex64")
    return _pair(n, lambda: np.fft.fft2(a, out=b), lambda: np.fft.ifft2(b, out=a), a, b)


def pair_scipy(n, threads):
    """SciPy's pocketfft, in place."""
    from scipy import fft

    a = _image(n)
    return _pair(
        n,
        lambda: fft.fft2(a, overwrite_x=True, workers=threads),
        lambda: fft.ifft2(a, overwrite_x=True, workers=threads),
        a,
        a,
    )


def pair_ducc0(n, threads):
    """DUCC."""
    from ducc0.fft import c2c

    a, b = _image(n), np.empty((n, n), "complex64")
    return _pair(
        n,
        lambda: c2c(a, forward=True, out=b, nthreads=threads),
        lambda: c2c(b, forward=False, inorm=2, out=a, nthreads=threads),
        a,
        b,
    )


def pair_mkl(n, threads):
    """MKL through mkl_fft; its threads are those of MKL_NUM_THREADS."""
    import mkl_fft

    a, b = _image(n), np.empty((n, n), "complex64")
    return _pair(n, lambda: mkl_fft.fft2(a, out=b), lambda: mkl_fft.ifft2(b, out=a), a, b)


def pair_torch(n, threads):
    """PyTorch on the CPU."""
    import torch

    torch.set_num_threads(threads)
    a, b = _image(n), np.empty((n, n), "complex64")
    x, k = torch.from_numpy(a), torch.from_numpy(b)
    return _pair(n, lambda: torch.fft.fft2(x, out=k), lambda: torch.fft.ifft2(k, out=x), a, b)


def _pair_fftw(n, threads, effort):
    """FFTW through pyFFTW. Timed unnormalised, and so on zeros: anything else would overflow."""
    import pyfftw

    a, b = (pyfftw.empty_aligned((n, n), "complex64", n=64) for _ in range(2))
    make = functools.partial(
        pyfftw.FFTW, axes=(0, 1), flags=(effort,), threads=threads, planning_timelimit=PLANNING_SECONDS
    )
    forward, inverse = make(a, b), make(b, a, direction="FFTW_BACKWARD")
    a[:] = _image(n)

    def unnormalised():
        forward.execute()
        inverse.execute()

    def backward():
        inverse.execute()
        a[:] /= n * n

    pair = _pair(n, forward.execute, backward, a, b, unnormalised)
    check = pair.check

    def check_then_zero():
        a[:] = _image(n)
        error = check()
        a[:] = 0
        return error

    pair.check = check_then_zero
    return pair


def _bind_fftw():
    """Call FFTW once before MKL is loaded, which has functions of the same names and would take its place unseen."""
    if missing("pyfftw") is None:
        for effort in ("FFTW_MEASURE", "FFTW_PATIENT"):
            _pair_fftw(8, 1, effort).checked()


# name -> (the module it needs, how it is made)
PAIRS = {
    "numpy": ("numpy", pair_numpy),
    "scipy": ("scipy", pair_scipy),
    "ducc0": ("ducc0", pair_ducc0),
    "mkl": ("mkl_fft", pair_mkl),
    "torch": ("torch", pair_torch),
    "fftw measure": ("pyfftw", functools.partial(_pair_fftw, effort="FFTW_MEASURE")),
    "fftw patient": ("pyfftw", functools.partial(_pair_fftw, effort="FFTW_PATIENT")),
}


# --- one ADMM iteration ----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Problem:
    """recTV of an ellipse image from radial lines, and its x after `steps` iterations in double precision."""

    n: int
    steps: int = 6

    def __post_init__(self):
        self.mask = kspike.radial_mask((self.n, self.n), lines=LINES)
        x = kspike.ellipses((self.n, self.n), seed=0)
        self.y = reference.fourier(x.astype("complex128"))[self.mask].astype("complex64")
        solver = kspike.TVSolver(self.mask, lam=0.14 * NOISE)
        self.lam, self.rho = solver.lam, solver.rho
        self.t = self.lam / self.rho
        self._expected = {}

    def zero(self, dtype):
        """The start, a field of one image."""
        return np.zeros((1, 2, self.n, self.n), dtype)

    def expected(self, relax=RELAX):
        """x after `steps` iterations of the textbook, from zero."""
        if relax not in self._expected:
            y, z = self.y.astype(complex), self.zero(complex)[0]
            found = reference.textbook_admm(y, self.mask, self.lam, self.rho, relax, self.steps, z, z)
            self._expected[relax] = found[0]
        return self._expected[relax]

    @functools.cached_property
    def tape(self):
        """The reference's tape of these iterations."""
        plan = reference.Plan(self.mask)
        tape, x = plan.tape(1), self.zero(complex)[:, 0]
        start, y = plan.state(self.zero(complex)), self.y[None].astype(complex)
        plan.iterate(start, y, x, self.t, self.rho, RELAX, self.steps, tape=tape)
        return tape


class Engine:
    """The sweeps of a kspike engine over one image, `count` steps in each call, as a solve makes them."""

    def __init__(self, name, problem, threads, count=20):
        self.problem, self.count = problem, count
        self.plan = select(name).Plan(problem.mask, "complex64", threads)
        self.y = problem.y[None].copy()
        self.x, self.zero = np.empty((1, problem.n, problem.n), "complex64"), problem.zero("complex64")
        self.state = self.plan.state(self.zero)

    def _iterate(self, state, count, tape=None, relax=RELAX):
        self.plan.iterate(state, self.y, self.x, self.problem.t, self.problem.rho, relax, count, tape=tape)

    def iteration(self, relax=RELAX):
        """The fused iteration; relax = 1 is without over-relaxation."""

        def check():
            self._iterate(self.plan.state(self.zero), self.problem.steps, relax=relax)
            return relative(self.x[0], self.problem.expected(relax))

        return Contestant(lambda: self._iterate(self.state, self.count, relax=relax), check, self.count)

    def plain(self):
        """The iteration without over-relaxation."""
        return self.iteration(1.0)

    def with_tape(self):
        """The iteration that records its tape."""
        run = lambda: self._iterate(self.state, self.count, self.plan.tape(1))  # noqa: E731
        return Contestant(run, self.iteration().check, self.count)

    def reverse(self):
        """The adjoint sweep over a tape; against the reference's, whose tape differs in the bits near the threshold."""
        tape, y, w = self.plan.tape(1), np.empty_like(self.y), np.empty_like(self.zero)
        self._iterate(self.plan.state(self.zero), self.count, tape)
        g = self.x.copy()

        def check():
            problem, short = self.problem, self.plan.tape(1)
            self._iterate(self.plan.state(self.zero), problem.steps, short)
            self.plan.reverse(short, g, y, w, problem.rho, RELAX)
            y0, w0 = y.astype(complex), w.astype(complex)
            reference.Plan(problem.mask).reverse(problem.tape, g.astype(complex), y0, w0, problem.rho, RELAX)
            return float(np.linalg.norm(y - y0) / np.linalg.norm(y0))

        return Contestant(
            lambda: self.plan.reverse(tape, g, y, w, self.problem.rho, RELAX), check, self.count, tolerance=0.02
        )

    def tangent(self):
        """The linearised iteration on the support of the state; against the reference's on the same support."""
        self._iterate(self.state, self.count)
        g, dx = self.x.copy(), np.empty_like(self.x)
        tape, state, rho = self.plan.freeze(self.state, self.problem.t), self.plan.state(self.zero), self.problem.rho

        def check():
            exact = reference.Plan(self.problem.mask)
            frozen = exact.freeze(exact.state(self.state.field()), self.problem.t)
            expected, count = np.empty(dx.shape, complex), self.problem.steps
            exact.tangent(exact.state(self.zero), frozen, g.astype(complex), expected, rho, RELAX, count)
            self.plan.tangent(self.plan.state(self.zero), tape, g, dx, rho, RELAX, count)
            return float(np.linalg.norm(dx - expected) / np.linalg.norm(expected))

        return Contestant(
            lambda: self.plan.tangent(state, tape, g, dx, rho, RELAX, self.count), check, self.count, tolerance=1e-3
        )


class Operators:
    """A and A* of kspike, one of each; D into a given output, and a plain copy that moves as many bytes as D does."""

    def __init__(self, problem, threads):
        self.problem, self.engine = problem, select("cpp")
        self.plan = self.engine.Plan(problem.mask, "complex64", threads)
        self.x = _image(problem.n)[None]

    def fourier(self):
        """A x, then A* of that, which a bare pair of a library does without the gather and the scatter."""
        y, x = np.empty_like(self.problem.y[None]), np.empty_like(self.x)

        def run():
            self.plan.forward(self.x, out=y)
            self.plan.adjoint(y, out=x)

        def check():
            run()
            exact = reference.Plan(self.problem.mask)
            expected = exact.forward(self.x.astype(complex))
            return max(relative(y, expected), relative(x, exact.adjoint(expected)))

        return Contestant(run, check)

    def gradient(self):
        """D x: 8 bytes read and 16 written a pixel."""
        d = self.problem.zero("complex64")

        def run():
            self.engine.grad(self.x, out=d)

        def check():
            run()
            return relative(d, reference.grad(self.x.astype(complex)))

        return Contestant(run, check)

    def copy(self):
        """12 bytes read and 12 written a pixel."""
        a = np.ones(3 * self.problem.n**2, "float32")
        b = np.zeros_like(a)
        return Contestant(lambda: np.copyto(b, a), lambda: relative(b, a) if b.any() else 0.0)


class Textbook:
    """Boyd's over-relaxed ADMM with z and u apart, in array code as good as it gets without kernels of one's own.

    Two FFTs an iteration; the centring is absorbed into the mask, the symbol and the data; nothing is computed twice.
    """

    def __init__(self, problem, xp, fft2, ifft2, put, parts, whole, clip):
        self.problem, self.xp, self.fft2, self.ifft2 = problem, xp, fft2, ifft2
        self.parts, self.whole, self.clip = parts, whole, clip
        spectrum = np.zeros(problem.mask.shape, "complex64")
        spectrum[problem.mask] = problem.y
        diagonal = problem.mask + problem.rho * reference.symbol(problem.mask.shape)
        self.data, self.inverse = put(np.fft.ifftshift(spectrum)), put(np.fft.ifftshift(1 / diagonal).astype("float32"))
        self.start = put(problem.zero("complex64")[0])
        self.z = self.u = self.start

    def step(self):
        """One iteration."""
        roll, rho, t = self.xp.roll, self.problem.rho, self.problem.t
        d0, d1 = self.z - self.u
        back = roll(d0, 1, 0) - d0 + (roll(d1, 1, 1) - d1)
        x = self.ifft2((self.data + rho * self.fft2(back)) * self.inverse)
        h = RELAX * self.xp.stack([roll(x, -1, 0) - x, roll(x, -1, 1) - x]) + (1 - RELAX) * self.z
        v = h + self.u
        self.u = self.whole(self.clip(self.parts(v), -t, t))
        self.z = v - self.u
        return x

    def iteration(self):
        """The contestant."""

        def check():
            self.z = self.u = self.start
            for _ in range(self.problem.steps):
                x = self.step()
            return relative(np.fft.fftshift(np.asarray(x)), self.problem.expected())

        return Contestant(self.step, check)


def textbook_numpy(problem, threads):
    """The textbook in NumPy."""
    fft2, ifft2 = (functools.partial(f, norm="ortho") for f in (np.fft.fft2, np.fft.ifft2))
    return _textbook_numpy(problem, fft2, ifft2)


def textbook_scipy(problem, threads):
    """The textbook in NumPy with SciPy's transforms."""
    from scipy import fft

    options = {"norm": "ortho", "workers": threads, "overwrite_x": True}
    return _textbook_numpy(problem, *(functools.partial(f, **options) for f in (fft.fft2, fft.ifft2)))


def _textbook_numpy(problem, fft2, ifft2):
    def parts(v):
        return v.view("float32")

    def whole(r):
        return r.view("complex64")

    return Textbook(problem, np, fft2, ifft2, lambda a: a, parts, whole, np.clip).iteration()


def textbook_torch(problem, threads):
    """The textbook in PyTorch on the CPU."""
    import torch

    torch.set_num_threads(threads)
    fft2, ifft2 = (functools.partial(f, norm="ortho") for f in (torch.fft.fft2, torch.fft.ifft2))
    real, whole = torch.view_as_real, torch.view_as_complex
    return Textbook(problem, torch, fft2, ifft2, torch.from_numpy, real, whole, torch.clamp).iteration()


# name -> (the module it needs, how it is made of a problem and a number of threads)
ITERATIONS = {
    "cpp": ("kspike._core", lambda problem, threads: Engine("cpp", problem, threads).iteration()),
    "numba": ("numba", lambda problem, threads: Engine("numba", problem, threads).iteration()),
    "textbook scipy": ("scipy", textbook_scipy),
    "textbook numpy": ("numpy", textbook_numpy),
    "textbook torch": ("torch", textbook_torch),
}


# name -> how it is made of a problem and a number of threads
OPERATORS = {
    "A and A*": lambda problem, threads: Operators(problem, threads).fourier(),
    "gradient": lambda problem, threads: Operators(problem, threads).gradient(),
    "copy": lambda problem, threads: Operators(problem, threads).copy(),
}


_bind_fftw()
