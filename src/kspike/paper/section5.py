# SPDX-License-Identifier: MIT
"""The numerical experiments on section 5: growth, the phase diagram, other artifacts, deterministic schemes."""

from __future__ import annotations

import itertools
import math

import numpy as np

from kspike import plots
from kspike.operators import MaskedFourier
from kspike.paper import theory
from kspike.plots import Chart, Series

__all__ = ["SECTION5"]

SPARSITY = 5
KINDS = {  # the name of a case: what is sparse, and whether the zero frequency is sampled
    "l1, random": ("identity", False),
    "l1, random and 0": ("identity", True),
    "TV, random and 0": ("gradient", True),
    "TV, random without 0": ("gradient", False),
}


def measurements(n, s):
    """m = 2 s log n, rounded up: C = 2 in theorems 5.1 and 5.2."""
    return math.ceil(2 * s * math.log(n))


def _case(kind, n, rng):
    """Mask and signal of a case, the origin free for the spike."""
    psi, dc = KINDS[kind]
    sparsity = SPARSITY + (2 if psi == "gradient" else 1)  # of what is to be recovered, the spike included
    mask = theory.random_frequencies(n, measurements(n, sparsity), rng, dc=dc)
    if not dc:
        mask[n // 2] = False
    return mask, (theory.spikes if psi == "identity" else theory.jumps)(n, SPARSITY, rng)


def _proven(mask, x, psi):
    """Whether x, for the gradient up to a constant, is certified as the unique minimiser."""
    if psi == "identity":
        return theory.certified(mask, x) > theory.MARGIN
    with_zero = mask.copy()
    with_zero[mask.size // 2] = True
    return theory.certified(with_zero, theory.difference(x)) > theory.MARGIN


def growth(results, *, seed=0, full=False):
    """alpha over n for the spike, measured by the solver where it is asked, beside n / m and n / log n."""
    trials, most, solved = (20, 18, 18) if full else (5, 16, 16)
    sizes = [2**k for k in range(8, most + 1)]
    delta_of = {n: np.eye(1, n, n // 2, dtype=complex)[0] for n in sizes}
    rows = []
    for kind, (psi, _) in KINDS.items():
        for n in sizes:

            def compute(progress, kind=kind, psi=psi, n=n):
                delta, found = delta_of[n], {"m": [], "proven": [], "alpha": [], "l2": []}
                for trial in range(trials):
                    mask, x = _case(kind, n, np.random.default_rng((seed, n, trial)))
                    A = MaskedFourier(mask, dtype="complex128")
                    e = A(delta)
                    r = np.abs(A.adjoint(e)).max()
                    found["m"].append(mask.sum())
                    found["proven"].append(_proven(mask, x, psi) and _proven(mask, x + delta, psi))
                    if trial == 0 and n <= 2**solved:
                        clean, dirty = (theory.minimise(mask, signal, psi)[0] for signal in (x, x + delta))
                        artifact = dirty - clean
                        found["alpha"].append(np.abs(artifact).max() / r)
                        found["l2"].append(np.linalg.norm(artifact) / np.linalg.norm(e))
                    if progress:
                        progress(trial + 1, trials)
                return found

            name = f"growth-{kind.replace(', ', '-').replace(' ', '-')}-{n}"
            kept = results.keep(name, compute, seed=seed, trials=trials, solved=n <= 2**solved)
            m, alpha, l2 = (float(kept[key][0]) if kept[key].size else math.nan for key in ("m", "alpha", "l2"))
            rows.append({"kind": kind, "n": n, "m": m, "n/m": n / m, "alpha": alpha, "sqrt(n/m)": math.sqrt(n / m)})
            rows[-1] |= {"l2": l2, "proven": float(kept["proven"].mean()), "trials": trials}

    left, right = [], []
    for (kind, (psi, _)), marker in zip(KINDS.items(), "ox+s", strict=True):
        mine = [row for row in rows if row["kind"] == kind]
        ns = np.array([row["n"] for row in mine])
        left.append(Series(ns, [row["alpha"] for row in mine], kind, style=marker))
        right.append(Series(ns, [row["l2"] for row in mine], kind, style=marker))
        if kind in ("l1, random", "TV, random and 0"):
            label = rf"$n/m$, $m = 2 (s + {2 if psi == 'gradient' else 1}) \log n$"
            left.append(Series(ns, [row["n/m"] for row in mine], label, style="--" if psi == "gradient" else "-"))
            right.append(Series(ns, [row["sqrt(n/m)"] for row in mine], "", style=left[-1].style))
    ticks = sizes[::2]
    figure = plots.charts(
        [
            Chart(
                r"largest value:  $\alpha_n = \Vert\delta\Vert_\infty/\Vert r_n\Vert_\infty$",
                "n",
                r"$\alpha_n$",
                left,
                "xy",
                ticks=ticks,
            ),
            Chart(
                r"energy:  $\Vert\delta\Vert_2/\Vert e_n\Vert_2$",
                "n",
                r"amplification in $\ell_2$",
                right,
                "xy",
                ticks=ticks,
            ),
        ]
    )
    results.show("theory-growth", figure, {"seed": seed, "sparsity": SPARSITY, "rows": rows})


def phase(results, *, seed=0, full=False):
    """The probability of exact recovery over m and s, for l1 and TV, each trial proven one way or the other.

    With the zero frequency and without; TV without it is to recover everything but the mean.
    """
    n, trials = 256, 50 if full else 8
    ms = np.arange(8, 161, 8 if full else 16)
    ss = np.arange(2, 61, 2 if full else 5)
    drawn, numbers = [], {"seed": seed, "n": n, "trials": trials, "m": ms, "s": ss}
    for psi, dc in itertools.product(("identity", "gradient"), (True, False)):

        def compute(progress, psi=psi, dc=dc):
            outcome = np.full((ss.size, ms.size, trials), np.nan)
            for i, s in enumerate(ss):
                for j, m in enumerate(ms):
                    for trial in range(trials):
                        rng = np.random.default_rng((seed, s, m, trial))
                        mask = theory.random_frequencies(n, int(m), rng, dc=dc)
                        x = (theory.spikes if psi == "identity" else theory.jumps)(n, int(s), rng)
                        if not dc:
                            mask[n // 2] = psi == "gradient"  # it says nothing new of D x, which sums to 0
                        outcome[i, j, trial] = theory.recovered(mask, x, psi)
                if progress:
                    progress(i + 1, ss.size)
            return {"outcome": outcome}

        name = psi if dc else f"{psi}-without-0"
        described = {"m": ms.tolist(), "s": ss.tolist(), "n": n, "trials": trials, "seed": seed}
        outcome = results.keep(f"phase-{name}", compute, **described)["outcome"]
        rate = (np.nansum(outcome == 1, axis=-1) + 0.5 * np.isnan(outcome).sum(-1)) / trials
        numbers[name] = {"probability": rate, "undecided": float(np.isnan(outcome).mean())}
        theirs = [theory.gaussian_measurements(n, s) for s in ss]
        line = Series(theirs, ss, style="--")
        title = {"identity": r"$\ell_1$, $s$ spikes", "gradient": r"TV, $s$ jumps"}[psi]
        title += ", the zero frequency sampled" if dc else ", without the zero frequency"
        drawn.append(
            Chart(title, r"frequencies $m$", r"$s$", [line], values=rate, x=ms, y=ss, label="recovered exactly")
        )
    dashed = "dashed: theory for Gaussian measurements, half of them recovered"
    figure = plots.charts(drawn, caption=f"n = {n}, {trials} trials in each cell;  {dashed}")
    results.show("theory-phase", figure, numbers)


def artifacts(results, *, seed=0, full=False):
    """Rectangles of w pixels in place of the spike: alpha against its bound n / (w m), and the energy."""
    n, trials = (65536, 50) if full else (4096, 20)
    widths = np.array([2**k for k in range(9)])

    def compute(progress):
        alpha, l2, proven = (np.zeros((trials, widths.size)) for _ in range(3))
        for trial in range(trials):
            rng = np.random.default_rng((seed, trial))
            mask, x = _case("TV, random and 0", n, rng)
            A = MaskedFourier(mask, dtype="complex128")
            for k, w in enumerate(widths):
                rho = np.zeros(n, complex)
                rho[n // 2 : n // 2 + w] = 1
                e = A(rho)
                alpha[trial, k] = 1 / np.abs(A.adjoint(e)).max()
                l2[trial, k] = np.linalg.norm(rho) / np.linalg.norm(e)
                proven[trial, k] = _proven(mask, x, "gradient") and _proven(mask, x + rho, "gradient")
            if progress:
                progress(trial + 1, trials)
        return {"alpha": alpha, "l2": l2, "proven": proven, "m": mask.sum()}

    kept = results.keep("artifacts", compute, seed=seed, n=n, trials=trials)
    m = int(kept["m"])
    bound = n / (widths * m)

    def band(values, label):
        low, middle, high = np.quantile(values, (0.1, 0.5, 0.9), axis=0)
        return Series(widths, middle, label, low=low, high=high)

    left = [band(kept["alpha"], "rectangle, median and 80 %"), Series(widths, bound, r"bound  $n/(w\,m)$", style="--")]
    right = [
        band(kept["l2"], "rectangle, median and 80 %"),
        Series(widths, np.full(widths.size, math.sqrt(n / m)), r"spike  $\sqrt{n/m}$", style="--"),
    ]
    figure = plots.charts(
        [
            Chart(r"largest value", r"width $w$", r"$\alpha$", left, "xy", ticks=widths),
            Chart(r"energy", r"width $w$", r"$\Vert\rho\Vert_2/\Vert e\Vert_2$", right, "xy", ticks=widths),
        ],
        caption=f"n = {n}, m = {m}, TV; exact recovery of x and x + rho proven in {kept['proven'].mean():.0%}",
    )
    numbers = {"seed": seed, "n": n, "m": m, "trials": trials, "w": widths, "bound": bound}
    numbers |= {name: kept[name].mean(0) for name in ("alpha", "l2", "proven")}
    results.show("theory-artifacts", figure, numbers)


def schemes(results, *, seed=0, full=False):
    """The deterministic schemes the paper cites, whose m does not grow: alpha = n / m over n."""
    c, s = 16, SPARSITY + 1
    sizes = [2**k for k in range(8, 17 if full else 15)]

    def compute(progress):
        rows = np.zeros((len(sizes), 5))
        for i, n in enumerate(sizes):
            rng = np.random.default_rng((seed, n))
            apart = theory.separated(n, 2 * n / c, rng)
            mask = theory.band(n, c)
            flat = theory.certified(mask, apart, flat=True)
            places = np.append(rng.choice(np.delete(np.arange(n), n // 2), s - 1, replace=False), n // 2)
            v = theory.touching(n, places)
            away = np.delete(v, places).max()
            random = measurements(n, s)
            rows[i] = n / mask.sum(), flat, n / (2 * s + 1), 1 - away, n / random
            if progress:
                progress(i + 1, len(sizes))
        return {"rows": rows}

    rows = results.keep("schemes", compute, seed=seed, c=c, s=s, sizes=sizes)["rows"]
    series = [
        Series(sizes, rows[:, 0], f"separated by 2n/c, $-c \\ldots c$, c = {c}"),
        Series(sizes, rows[:, 2], f"non-negative, $-s \\ldots s$, s = {s}"),
        Series(sizes, rows[:, 4], r"random, $m = 2 s \log n$"),
    ]
    figure = plots.charts([Chart("sampling schemes", "n", r"$\alpha_n = n/m$", series, "xy", ticks=sizes[::2])])
    names = ("alpha separated", "margin separated", "alpha non-negative", "margin non-negative", "alpha random")
    results.show(
        "theory-schemes", figure, {"seed": seed, "c": c, "s": s, "n": sizes} | dict(zip(names, rows.T, strict=True))
    )


SECTION5 = {"growth": growth, "phase": phase, "artifacts": artifacts, "schemes": schemes}
