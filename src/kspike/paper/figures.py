# SPDX-License-Identifier: MIT
"""Figures 1 to 7 of arXiv 2206.05289: each a function of a `Results` and a `Setting`."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass, replace

import numpy as np

from kspike import metrics, phantoms, plots, sampling
from kspike.attack import attack
from kspike.operators import MaskedFourier
from kspike.solver import TVSolver

__all__ = ["FIGURES", "LAMS", "Setting"]

# The lam of least error against the truth, measured at 256 x 256 and 40 lines (`kspike tune`).
LAMS = {0.005: 3.2e-4, 0.01: 6.4e-4, 0.02: 2.0e-3, 0.04: 5.6e-3, 0.08: 1.1e-2, 0.1: 1.4e-2}


@dataclass(frozen=True)
class Setting:
    """What the figures are made of. The defaults are the paper's, but for `full`."""

    size: int = 256
    lines: int = 40
    seed: int = 0
    """Of the ellipse image."""
    grid: tuple[int, int] = (8, 8)
    full: bool = False
    """Evaluate perturbations by 5000 plain iterations in double precision, as the paper does, and not by the solver's
    stopping rule."""
    threads: int = 1

    @property
    def image(self):
        """The test image, float32 (size, size)."""
        return phantoms.ellipses((self.size, self.size), seed=self.seed)

    @property
    def mask(self):
        """The sampling mask."""
        return sampling.radial_mask((self.size, self.size), self.lines)

    @property
    def key(self):
        """All that results depend on."""
        return {name: value for name, value in asdict(self).items() if name != "threads"}


def tv(setting, noise):
    """recTV at the lam of this noise."""
    return TVSolver(setting.mask, LAMS[noise], threads=setting.threads)


def attacked(results, setting, noise, name="tv", rec=None, image=None):
    """The attack on a reconstruction, as a dict of arrays: e, r, clean, reconstruction, location and measures."""
    rec = tv(setting, noise) if rec is None else rec
    image = setting.image if image is None else image

    def compute(progress):
        A = rec.A
        y = A(image)
        found = attack(rec, y, noise=noise, grid=setting.grid, progress=progress)
        x, clean = found.reconstruction, found.clean
        if setting.full and isinstance(rec, TVSolver):
            exact = TVSolver(A.mask, rec.lam, relax=1.0, dtype="complex128", threads=setting.threads)
            pair = np.stack([y, y + found.perturbation]).astype("complex128")
            clean, x = exact.solve(pair, 5000, 0).x.astype(A.dtype)
        top = metrics.max_modulus(x - clean)
        return {
            "perturbation": found.perturbation,
            "image_perturbation": found.image_perturbation,
            "clean": clean,
            "reconstruction": x,
            "location": found.location,
            "artifact": top,
            "alpha": top / found.image_perturbation_max,
            "eta": found.eta,
        }

    return results.keep(f"attack-{name}-{noise:g}", compute, noise=noise, **setting.key)


# --- total variation ------------------------------------------------------------------------------------------------


def perturbed_twice(results, setting):
    """Figure 1: Gaussian noise and a feature, each a tenth of the image in the l2 norm."""
    x = setting.image
    size = 0.1 * float(np.linalg.norm(x))
    noise = np.random.default_rng(setting.seed).standard_normal(x.shape)
    noise *= size / np.linalg.norm(noise)
    feature, location = _feature(x, size)
    measures = {}
    for name, a in (("noise", noise), ("feature", feature)):
        measures[name] = {
            "relative_l2": metrics.relative_l2(x + a, x),
            "max": metrics.max_modulus(a),
            "psnr": metrics.psnr(x + a, x),
            "local_damage": metrics.local_damage(a),
        }
    notes = [
        rf"$\Vert\cdot\Vert_2$ {m['relative_l2']:.0%},  $\Vert\cdot\Vert_\infty$ {m['max']:.2f},  "
        f"local damage {m['local_damage']:.3f}"
        for m in measures.values()
    ]
    figure = plots.panels(
        [[x + noise, x + feature]],
        titles=["Gaussian noise", "a feature of the same norm"],
        locations=[[location, location]],
        zoom=round(setting.size / 12),
        notes=[notes],
        bars=False,
    )
    results.show(
        "figure1", figure, {"setting": setting.key, **measures}, {"image": x, "noise": noise, "feature": feature}
    )


def _feature(x, size):
    """Something that could mean something, of this l2 norm: a lobed bright spot with a rim; and its (row, col).

    It lies where the image is even and neither dark nor bright.
    """
    n = x.shape[0]
    side, places = max(1, n // 10), np.arange(n // 10, n - n // 10, max(1, n // 64))
    box = {place: slice(place - side // 2, place + side // 2 + 1) for place in places}
    boxes = {(i, j): x[box[i], box[j]] for i in places for j in places}
    row, col = min(boxes, key=lambda place: abs(boxes[place].mean() - 0.3) + 3 * boxes[place].std())
    i, j = (np.arange(n)[:, None] - row) / n, (np.arange(n) - col) / n
    angle, radius = np.arctan2(i, j), np.hypot(i, j)
    edge = 0.034 * (1 + 0.22 * np.cos(3 * angle + 0.5) + 0.1 * np.sin(5 * angle))
    inside = np.clip((edge - radius) * n / 2 + 0.5, 0, 1)
    feature = inside * (1 - 0.45 * np.exp(-((radius / 0.014) ** 2)))
    return feature * (size / np.linalg.norm(feature)), (int(row), int(col))


def sampled(results, setting):
    """Figure 2: the mask, an image, and its reconstruction by the pseudo-inverse."""
    x, mask = setting.image, setting.mask
    A = MaskedFourier(mask)
    zero_filled = A.adjoint(A(x))
    figure = plots.panels(
        [[mask, x, zero_filled]],
        titles=[
            rf"mask  $\Omega$, {setting.lines} lines, $n^2/m$ = {sampling.subsampling_factor(mask):.2f}",
            r"image  $x$",
            r"pseudo-inverse  $A^{\dagger} A x$",
        ],
        negative={(0, 0)},
        bars=False,
    )
    numbers = {
        "setting": setting.key,
        "samples": A.samples,
        "subsampling_factor": sampling.subsampling_factor(mask),
        "psnr": metrics.psnr(zero_filled, x),
    }
    results.show("figure2", figure, numbers, {"mask": mask, "image": x, "pseudo_inverse": zero_filled})


def _triptych(results, setting, name, found, image, what, noise):
    """Figures 3 and 5."""
    r = found["image_perturbation"]
    caption = (
        rf"noise {noise:.2g}    $\alpha = {found['alpha']:.2f}$    "
        rf"$\Vert\rho\Vert_\infty = {found['artifact']:.2f}$    $\Vert r\Vert_\infty = {np.abs(r).max():.2f}$"
    )
    place = tuple(map(int, found["location"]))
    figure = plots.panels(
        [[image, image + r, found["reconstruction"]]],
        titles=[r"image  $x$", r"perturbed  $x + r$,  $r = A^{\dagger} e$", rf"{what}$\,(y + e)$"],
        locations=[[None, place, place]],
        caption=caption,
    )
    numbers = {"setting": setting.key, "noise": noise, "location": place}
    numbers |= {key: float(found[key]) for key in ("alpha", "artifact", "eta")}
    results.show(name, figure, numbers, {"image": image, **found})


def amplified(results, setting):
    """Figure 3: an image, perturbed, and its TV reconstruction."""
    found = attacked(results, setting, 0.04)
    _triptych(results, setting, "figure3", found, setting.image, r"$\mathrm{rec}_{TV}$", 0.04)


def by_noise(results, setting):
    """Figure 4: four noise levels, perturbed image above, reconstruction below."""
    noises = (0.005, 0.01, 0.04, 0.08)
    found = [attacked(results, setting, noise) for noise in noises]
    places = [tuple(map(int, f["location"])) for f in found]
    x = setting.image
    tops = [float(np.abs(f["image_perturbation"]).max()) for f in found]
    figure = plots.panels(
        [[x + f["image_perturbation"] for f in found], [f["reconstruction"] for f in found]],
        titles=[f"{noise:.1%} noise".replace(".0%", "%") for noise in noises],
        names=[r"perturbed  $x + r$", r"$\mathrm{rec}_{TV}(y + e)$"],
        notes=[
            [rf"$\Vert r\Vert_\infty = {top:.2f}$" for top in tops],
            [rf"$\Vert\rho\Vert_\infty = {f['artifact']:.2f}$,  $\alpha = {f['alpha']:.1f}$" for f in found],
        ],
        locations=[places, places],
    )
    numbers = {
        "setting": setting.key,
        "noise": noises,
        "lam": [LAMS[noise] for noise in noises],
        "alpha": [float(f["alpha"]) for f in found],
        "artifact": [float(f["artifact"]) for f in found],
        "image_perturbation": tops,
    }
    arrays = {f"{key}-{noise:g}": f[key] for noise, f in zip(noises, found, strict=True) for key in f}
    results.show("figure4", figure, numbers, {"image": x, **arrays})


# --- networks -------------------------------------------------------------------------------------------------------


def reconstructions(setting, noise):
    """recTV, Tira and TiraFL for the mask of the bundled networks, by name."""
    nets, torch = importlib.import_module("kspike.nets"), importlib.import_module("kspike.torch")
    found = {}
    for name, prefix in (("Tira", "tira-"), ("TiraFL", "tirafl-")):
        names = [bundled for bundled in nets.bundled() if bundled.startswith(prefix)]
        if not names:
            raise ValueError(f"figures 5 to 7: expected weights of {name} in the package, got {nets.bundled()}")
        largest = max(names, key=lambda bundled: int(bundled.rpartition("-")[2]))
        found[name] = torch.Reconstruction(nets.load(largest))
    mask = found["Tira"].A.mask
    if not np.array_equal(mask, found["TiraFL"].A.mask):
        raise ValueError("figures 5 to 7: expected networks of one mask")
    return {"recTV": TVSolver(mask, LAMS[noise], threads=setting.threads), **found}


def _networks(setting, noise):
    """The setting at the networks' size, its image, and the reconstructions."""
    recs = reconstructions(setting, noise)
    size = recs["Tira"].shape[0]
    grid = setting.grid if setting.full else tuple(min(4, g) for g in setting.grid)
    setting = replace(setting, size=size, lines=0, grid=grid)  # the lines are the networks' own
    return setting, setting.image, recs


def by_a_network(results, setting):
    """Figure 5: as figure 3, for Tira."""
    setting, image, recs = _networks(setting, 0.04)
    found = attacked(results, setting, 0.04, "tira", recs["Tira"], image=image)
    _triptych(results, setting, "figure5", found, image, r"$\mathrm{Tira}$", 0.04)


def transferred_from_a_network(results, setting):
    """Figure 6: a perturbation made for Tira, and what each reconstruction makes of it."""
    _transferred(results, setting, "figure6", "Tira")


def transferred_from_tv(results, setting):
    """Figure 7: the same with a perturbation made for recTV."""
    _transferred(results, setting, "figure7", "recTV")


def _transferred(results, setting, name, victim):
    noise = 0.04
    setting, image, recs = _networks(setting, noise)
    piece = {"Tira": "tira", "recTV": "tv-small"}[victim]
    found = attacked(results, setting, noise, piece, recs[victim], image=image)
    y, e, r = recs[victim].A(image), found["perturbation"], found["image_perturbation"]
    pairs = {rec: (recs[rec](y), recs[rec](y + e)) for rec in recs}
    tops = {rec: metrics.max_modulus(dirty - clean) for rec, (clean, dirty) in pairs.items()}
    top = metrics.max_modulus(r)
    place = tuple(map(int, found["location"]))
    figure = plots.panels(
        [[image + r, *(dirty for _, dirty in pairs.values())]],
        titles=[rf"perturbed for {victim}  $x + r$", *recs],
        notes=[
            [
                rf"$\Vert r\Vert_\infty$ = {top:.2f}",
                *(rf"artifact {tops[rec]:.2f},  $\alpha$ = {tops[rec] / top:.2f}" for rec in recs),
            ]
        ],
        locations=[[place] * (1 + len(recs))],
    )
    numbers = {"setting": setting.key, "noise": noise, "victim": victim, "location": place, "image_perturbation": top}
    numbers |= {"artifact": tops, "alpha": {rec: value / top for rec, value in tops.items()}}
    numbers["local_damage"] = {rec: metrics.local_damage(dirty - clean) for rec, (clean, dirty) in pairs.items()}
    numbers["psnr_clean"] = {rec: metrics.psnr(clean, image) for rec, (clean, _) in pairs.items()}
    arrays = {"image": image, "perturbation": e} | {rec: dirty for rec, (_, dirty) in pairs.items()}
    results.show(name, figure, numbers, arrays)


FIGURES = {
    1: perturbed_twice,
    2: sampled,
    3: amplified,
    4: by_noise,
    5: by_a_network,
    6: transferred_from_a_network,
    7: transferred_from_tv,
}
