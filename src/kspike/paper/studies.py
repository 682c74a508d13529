# SPDX-License-Identifier: MIT
"""What lies beyond the paper: resolution, sparsifiers, real perturbations, masks, and a measure of local damage."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from kspike import metrics, phantoms, plots, sampling
from kspike.attack import attack
from kspike.baselines import random_noise
from kspike.operators import MaskedFourier
from kspike.paper.figures import LAMS
from kspike.plots import Chart, Series
from kspike.solver import TVSolver
from kspike.sparse import SparseSolver

__all__ = ["STUDIES"]

LINES = 40
NOISES = (0.005, 0.01, 0.04, 0.08)


def _images(size, count, seed):
    return phantoms.ellipses((size, size), seed=seed, count=count)


def _lines(size):
    """40 lines at 256 x 256, and as many in proportion."""
    return max(1, LINES * size // 256)


def _measures(found, x):
    """What a study tells of an attack."""
    return {
        "alpha": found.amplification,
        "units": found.units,
        "artifact": found.artifact_max,
        "local_damage": metrics.local_damage(found.artifact),
        "psnr_clean": metrics.psnr(found.clean, x),
    }


def resolution(results, *, seed=0, full=False, threads=1, sizes=None):
    """Alpha over the resolution at 40 lines, where n^2 / m grows like n."""
    sizes = sizes or ((256, 512, 1024, 2048) if full else (256, 512, 1024))
    rows = []
    for n in sizes:

        def compute(progress, n=n):
            x = phantoms.ellipses((n, n), seed=seed)
            tv = TVSolver(sampling.radial_mask((n, n), LINES), LAMS[0.04], threads=threads)
            start = time.perf_counter()
            found = attack(tv, tv.A(x), noise=0.04, at=[(7 * n // 16, 7 * n // 16)], progress=progress)
            seconds = time.perf_counter() - start
            factor = sampling.subsampling_factor(tv.A.mask)
            return _measures(found, x) | {"factor": factor, "pairs": found.pairs.max(), "seconds": seconds}

        kept = results.keep(f"resolution-{n}", compute, seed=seed, n=n)
        rows.append({"n": n, **{key: float(value) for key, value in kept.items()}})
    alphas = [
        Series(sizes, [row["alpha"] for row in rows], "attack"),
        Series(sizes, [row["factor"] for row in rows], r"$n^2/m$", style="--"),
    ]
    units = [Series(sizes, [row["units"] for row in rows], "attack"), Series(sizes, [1] * len(sizes), "", style="--")]
    figure = plots.charts(
        [
            Chart("amplification", "n", r"$\alpha$", alphas, "xy", ticks=sizes),
            Chart("artifact", "n", r"artifact / $\eta\sqrt{n^2/m}$", units, "x", ticks=sizes),
        ],
        caption=f"{LINES} lines, 4 % noise, one location",
    )
    results.show("study-resolution", figure, {"seed": seed, "lines": LINES, "noise": 0.04, "rows": rows})


class _Unrolled:
    """A sparse reconstruction by a fixed number of iterations, for an attack."""

    def __init__(self, solver, iterations):
        self._solver, self._iterations, self.A = solver, iterations, solver.A

    def vjp(self, y):
        return self._solver.vjp(y, iterations=self._iterations)


REGULARISERS = {  # name -> (sparsifier, norm)
    "TV, separable": ("gradient", "separable"),
    "TV, modulus": ("gradient", "modulus"),
    "TV, isotropic": ("gradient", "isotropic"),
    "Haar": ("haar", "modulus"),
    "db4": ("db4", "modulus"),
}
PATH = (3e-4, 1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2, 3.2e-2)


def sparsifiers(results, *, seed=0, full=False, threads=1, size=None, iterations=300):
    """The attack on total variation in three norms and on wavelets, each at its own best lam."""
    n, noise = size or (256 if full else 128), 0.04
    mask, x = sampling.radial_mask((n, n), _lines(n)), phantoms.ellipses((n, n), seed=seed)
    rows, pictures = [], []
    for name, (psi, norm) in REGULARISERS.items():

        def compute(progress, psi=psi, norm=norm):
            def solver(lam):
                if psi == "gradient":
                    return TVSolver(mask, lam, norm=norm, threads=threads)
                return SparseSolver(mask, psi, lam=lam, norm=norm, threads=threads)

            A = MaskedFourier(mask)
            y = A(x)
            noisy = y + random_noise(A, noise * float(np.linalg.norm(y)), seed=seed)
            errors = [metrics.relative_l2(solver(lam).solve(noisy, 500, 1e-3).x, x) for lam in PATH]
            lam = PATH[int(np.argmin(errors))]
            rec = solver(lam) if psi == "gradient" else _Unrolled(solver(lam), iterations)
            at = [(7 * n // 16, 7 * n // 16)]
            found = attack(rec, y, noise=noise, at=at, progress=progress)
            more = {"lam": lam, "error": min(errors), "reconstruction": found.reconstruction}
            return _measures(found, x) | more | {"location": found.location}

        described = {"seed": seed, "n": n, "noise": noise, "iterations": iterations, "norm": norm, "psi": psi}
        kept = results.keep(f"sparsifiers-{name.replace(', ', '-')}", compute, **described)
        pictures.append(kept.pop("reconstruction"))
        place = tuple(map(int, kept.pop("location")))
        rows.append({"name": name, **{key: float(value) for key, value in kept.items()}})
    notes = [rf"$\alpha$ = {row['alpha']:.1f}, artifact {row['artifact']:.1f}" for row in rows]
    figure = plots.panels(
        [pictures], titles=[row["name"] for row in rows], notes=[notes], locations=[[place] * len(rows)]
    )
    numbers = {"seed": seed, "n": n, "lines": _lines(n), "noise": noise, "rows": rows}
    results.show("study-sparsifiers", figure, numbers, dict(zip(REGULARISERS, pictures, strict=True)))


def real(results, *, seed=0, full=False, threads=1, size=256):
    """Perturbations that are the samples of a real image, beside complex ones."""
    count = 10 if full else 3
    mask = sampling.radial_mask((size, size), _lines(size))
    rows = []
    for noise in NOISES:
        for ball in ("l2", "real"):

            def compute(progress, noise=noise, ball=ball):
                tv = TVSolver(mask, LAMS[noise], threads=threads)
                found = []
                for i, x in enumerate(_images(size, count, seed)):
                    found.append(_measures(attack(tv, tv.A(x), noise=noise, ball=ball, grid=(2, 2)), x))
                    if progress:
                        progress(i + 1, count)
                return {key: [f[key] for f in found] for key in found[0]}

            kept = results.keep(f"real-{ball}-{noise:g}", compute, seed=seed, count=count, size=size)
            rows.append({"noise": noise, "ball": ball, **{key: float(value.mean()) for key, value in kept.items()}})
    drawn = []
    for key, title, label in (
        ("alpha", "amplification", r"$\alpha$"),
        ("units", "artifact", r"artifact / $\eta\sqrt{n^2/m}$"),
    ):
        percent = [100 * noise for noise in NOISES]
        series = [
            Series(percent, [row[key] for row in rows if row["ball"] == ball], name, style=style)
            for ball, name, style in (("l2", "any perturbation", "o-"), ("real", "of a real image", "x--"))
        ]
        drawn.append(Chart(title, "noise in %", label, series, "x", ticks=percent))
    figure = plots.charts(drawn, caption=f"{size} x {size}, {LINES} lines, {count} images")
    results.show("study-real", figure, {"seed": seed, "count": count, "rows": rows})


def masks(results, *, seed=0, full=False, threads=1, size=256):
    """Radial, Cartesian and random masks of about as many samples."""
    count, noise = 10 if full else 2, 0.04
    shape = size, size
    radial = sampling.radial_mask(shape, _lines(size))
    factor = sampling.subsampling_factor(radial)
    every = {
        "radial": radial,
        "Cartesian": sampling.cartesian_mask(shape, factor, 0.08, seed),
        "random": sampling.random_mask(shape, factor, power=0, seed=seed),
        "random, denser at the centre": sampling.random_mask(shape, factor, power=2, seed=seed),
    }
    rows, pictures, places = [], [], []
    for name, mask in every.items():

        def compute(progress, mask=mask):
            tv, found = TVSolver(mask, LAMS[noise], threads=threads), []
            for i, x in enumerate(_images(size, count, seed)):
                found.append((attack(tv, tv.A(x), noise=noise, grid=(2, 2)), x))
                if progress:
                    progress(i + 1, count)
            measured = [_measures(*pair) for pair in found]
            first = found[0][0]
            return {key: [m[key] for m in measured] for key in measured[0]} | {
                "factor": sampling.subsampling_factor(mask),
                "reconstruction": first.reconstruction,
                "location": first.location,
            }

        kept = results.keep(
            f"masks-{name.replace(' ', '-').replace(',', '')}", compute, seed=seed, count=count, size=size
        )
        pictures.append(kept.pop("reconstruction"))
        places.append(tuple(map(int, kept.pop("location"))))
        rows.append({"name": name, **{key: float(value.mean()) for key, value in kept.items()}})
    notes = [
        [rf"$n^2/m$ = {row['factor']:.2f}" for row in rows],
        [rf"$\alpha$ = {row['alpha']:.1f}, artifact {row['artifact']:.1f}" for row in rows],
    ]
    figure = plots.panels(
        [list(every.values()), pictures],
        titles=list(every),
        names=["mask", r"$\mathrm{rec}_{TV}(y + e)$"],
        notes=notes,
        locations=[[None] * len(rows), places],
        negative={(0, j) for j in range(len(rows))},
    )
    results.show("study-masks", figure, {"seed": seed, "count": count, "noise": noise, "rows": rows})


def damage(results, *, seed=0, full=False, threads=1, size=256):
    """Five measures on changes of one l2 norm: attacks, features, noise, and noise that was reconstructed."""
    share = 0.04
    x = phantoms.ellipses((size, size), seed=seed)
    tv = TVSolver(sampling.radial_mask((size, size), _lines(size)), LAMS[0.01], threads=threads)
    away = np.hypot(*(np.indices(x.shape) - 0.44 * size))

    def compute(progress):
        y = tv.A(x)
        found = attack(tv, y, noise=0.01, grid=(4, 4), progress=progress)
        noise = random_noise(tv.A, found.eta, seed=seed)
        return {"attack": found.artifact, "reconstructed": tv(y + noise) - found.clean}

    kept = results.keep("damage", compute, seed=seed, size=size)
    rng = np.random.default_rng(seed)
    changes = {
        "attack on TV, 1 %": kept["attack"],
        "disk, radius 3": (away <= 3 / 256 * size).astype(float),
        "disk, radius 12": (away <= 12 / 256 * size).astype(float),
        "disk, radius 40": (away <= 40 / 256 * size).astype(float),
        "TV of noise, 1 %": kept["reconstructed"],
        "noise": rng.standard_normal(x.shape),
    }
    rows, pictures = [], []
    for name, change in changes.items():
        change = change * (share * np.linalg.norm(x) / np.linalg.norm(change))
        pictures.append(x + change)
        rows.append({"name": name, **_five(x + change, x, change)})
    notes = [
        f"{row['name']}\n"
        rf"$\ell_\infty$ {row['l_inf']:.2f}, SSIM {row['ssim']:.3f}, local damage {row['local_damage']:.3f}"
        for row in rows
    ]
    centre = (round(0.44 * size), round(0.44 * size))
    places = [metrics.argmax_location(kept["attack"]), centre, centre, None, None, None]
    figure = plots.panels(
        [pictures[:3], pictures[3:]],
        notes=[notes[:3], notes[3:]],
        locations=[places[:3], places[3:]],
        zoom=size // 16,
        caption=rf"each change is {share:.0%} of the image in the $\ell_2$ norm, PSNR {rows[0]['psnr']:.1f} dB",
    )
    pairs = _attack_and_noise(results, x, seed, threads)
    results.show("study-damage", figure, {"seed": seed, "share": share, "rows": rows, "pairs": pairs})


def _five(seen, x, change):
    """Five measures of a change of an image."""
    return {
        "l2": metrics.relative_l2(seen, x),
        "l_inf": metrics.max_modulus(change),
        "psnr": metrics.psnr(seen, x),
        "ssim": metrics.ssim(seen, x),
        "local_damage": metrics.local_damage(change),
    }


def _attack_and_noise(results, x, seed, threads):
    """The five measures of what TV makes of an attack, and of noise of the same size, at each noise level."""
    mask, rows = sampling.radial_mask(x.shape, _lines(x.shape[0])), []
    for noise in NOISES:

        def compute(progress, noise=noise):
            tv = TVSolver(mask, LAMS[noise], threads=threads)
            y = tv.A(x)
            found = attack(tv, y, noise=noise, grid=(2, 2), progress=progress)
            noisy = tv.solve(y + random_noise(tv.A, found.eta, seed=seed)).x
            return {"clean": found.clean, "attack": found.reconstruction, "noise": noisy}

        kept = results.keep(f"damage-{noise:g}", compute, seed=seed, size=x.shape[0])
        for name in ("attack", "noise"):
            rows.append({"noise": noise, "name": name, **_five(kept[name], x, kept[name] - kept["clean"])})
    return rows


STUDIES: dict[str, Callable] = {
    "damage": damage,
    "masks": masks,
    "real": real,
    "resolution": resolution,
    "sparsifiers": sparsifiers,
}
