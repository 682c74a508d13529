# SPDX-License-Identifier: MIT
"""TV and the bundled networks: quality under noise, amplification under attack, transfer; tables and a picture.

    python bench/networks.py --plot docs/networks.png

Held-out ellipses at the networks' size. For each image and level: lam of TV tuned on other images of that level, one
attack of each reconstruction at each location of the grid, the largest artifact chosen, and what each chosen
perturbation does to each reconstruction. TV is attacked from the minus spike, the networks from --start. Rows go to the
JSON lines of --rows; what is there is not computed again, so that a run can be killed and gone on with.
"""

import argparse
import json
import pathlib

import numpy as np
import torch

import kspike
from kspike import metrics, nets
from kspike.torch import Reconstruction

NOISES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.1)
LEVELS = (0.0, *NOISES, 0.14)
TEST, TUNING = 31_415, 27_182  # seeds of the images


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoints", nargs="+", default=["tira-128", "tirafl-128"])
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--grid", type=int, default=2, help="locations along each side")
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--start", nargs="+", default=["random"], help="of the attacks on networks")
    parser.add_argument("--rows", type=pathlib.Path, default=pathlib.Path("networks.jsonl"))
    parser.add_argument("--plot", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = [json.loads(line) for line in arguments.rows.read_text().splitlines()] if arguments.rows.exists() else []
    done = {(row["what"], row["noise"], row["image"]) for row in rows}
    networks = {name.partition("-")[0]: Reconstruction(nets.load(name)) for name in arguments.checkpoints}
    mask = next(iter(networks.values())).net.mask
    images = kspike.ellipses(mask.shape, seed=TEST, count=arguments.images)
    for what, levels, task in (("quality", LEVELS, quality), ("attack", NOISES, attacks)):
        for index in range(arguments.images):
            for noise in levels:
                if (what, noise, index) not in done:
                    tv = tuned(mask, noise)
                    found = [
                        {"what": what, "noise": noise, "image": index, **row}
                        for row in task({"TV": tv} | networks, images[index], noise, index, arguments)
                    ]
                    rows += found
                    with arguments.rows.open("a") as file:
                        file.writelines(json.dumps(row) + "\n" for row in found)
                    print(*found, sep="\n", flush=True)
    report(rows, ["TV", *networks])
    if arguments.plot:
        plot(rows, ["TV", *networks], arguments.plot)


class TV:
    """recTV solved to 1e-4 in at most 8000 iterations, for `transfer`."""

    def __init__(self, mask, lam):
        self.solver = kspike.TVSolver(mask, lam)

    def __call__(self, y):
        """Rec(y)."""
        return self.solver.solve(y, 8000, 1e-4).x


def tuned(mask, noise, kept={}):  # noqa: B006 (what was tuned stays tuned)
    """TV with the lam that is best against the truth of five other images at this noise; 1e-4 without noise."""
    if noise not in kept:
        truth = kspike.ellipses(mask.shape, seed=TUNING, count=5)
        y = noisy(kspike.MaskedFourier(mask)(truth), noise, TUNING)
        lam = kspike.tune(y, mask, truth=truth, noise=noise).lam if noise else 1e-4
        kept[noise] = TV(mask, lam)
    return kept[noise]


def noisy(y, noise, seed):
    """Samples with Gaussian noise of the relative size."""
    e = np.random.default_rng(seed).standard_normal((*y.shape, 2)) @ (1, 1j)
    e *= noise * np.linalg.norm(y, axis=-1, keepdims=True) / np.linalg.norm(e, axis=-1, keepdims=True)
    return (y + e).astype(y.dtype)


def quality(recs, image, noise, index, _):
    """PSNR and SSIM with Gaussian noise, and the zero-filled inverse beside."""
    A = recs["TV"].solver.A
    y = noisy(A(image), noise, index)
    for name, rec in ({"zero-filled": A.adjoint} | recs).items():
        x = np.abs(rec(y))
        yield {"rec": name, "psnr": metrics.psnr(x, image), "ssim": metrics.ssim(x, image)}


def attacks(recs, image, noise, _, arguments):
    """The attack of each, and what it does to the others."""
    A = recs["TV"].solver.A
    y = A(image)
    found = {}
    for name, rec in recs.items():
        target, start = (rec.solver, None) if name == "TV" else (rec, tuple(arguments.start))
        grid = (arguments.grid, arguments.grid)
        found[name] = kspike.attack(target, y, noise=noise, grid=grid, steps=arguments.steps, start=start)
    crossed = kspike.transfer(list(recs.values()), list(found.values()), y, A=A)
    spike = kspike.spike(A, next(iter(found.values())).location, noise * np.linalg.norm(y))
    plain = kspike.transfer(list(recs.values()), [-spike], y, A=A)
    root = np.sqrt(A.mask.size / A.samples) * noise * np.linalg.norm(y)
    for i, rec in enumerate(recs):
        row = {"rec": rec, "made for": "spike", "alpha": plain.amplifications[i, 0]}
        yield row | {"artifact": plain.artifact_maxima[i, 0], "units": plain.artifact_maxima[i, 0] / root}
        for j, source in enumerate(found):
            row = {"rec": rec, "made for": source, "alpha": crossed.amplifications[i, j]}
            yield row | {"artifact": crossed.artifact_maxima[i, j], "units": crossed.artifact_maxima[i, j] / root}


def picked(rows, key, **wanted):
    """The numbers under a key of the rows that agree."""
    return np.array([row[key] for row in rows if all(row.get(name) == value for name, value in wanted.items())])


def present(rows, what):
    """The levels of noise of which there are rows."""
    return sorted({row["noise"] for row in rows if row["what"] == what})


def spread(values):
    """Mean and standard deviation."""
    return f"{values.mean():.2f} ± {values.std():.2f}"


def report(rows, names):
    """The tables, in Markdown."""
    header("noise", "zero-filled", *names, *(f"SSIM {name}" for name in names))
    for noise in present(rows, "quality"):
        psnr = [spread(picked(rows, "psnr", what="quality", noise=noise, rec=rec)) for rec in ("zero-filled", *names)]
        ssim = [f"{picked(rows, 'ssim', what='quality', noise=noise, rec=rec).mean():.3f}" for rec in names]
        line(f"{100 * noise:g} %", *psnr, *ssim)
    header("noise", *(f"alpha {name}" for name in names), *(f"artifact {name}" for name in names))
    for noise in present(rows, "attack"):
        own = [{"what": "attack", "noise": noise, "rec": rec, "made for": rec} for rec in names]
        line(
            f"{100 * noise:g} %",
            *(spread(picked(rows, "alpha", **which)) for which in own),
            *(spread(picked(rows, "artifact", **which)) for which in own),
        )
    header("noise", "made for", *(f"artifact in {rec}" for rec in names), *(f"alpha in {rec}" for rec in names))
    for noise in present(rows, "attack"):
        for source in ("spike", *names):
            which = [{"what": "attack", "noise": noise, "rec": rec, "made for": source} for rec in names]
            line(
                f"{100 * noise:g} %",
                source,
                *(f"{picked(rows, 'artifact', **one).mean():.2f}" for one in which),
                *(f"{picked(rows, 'alpha', **one).mean():.2f}" for one in which),
            )


def header(*cells):
    """The head of a table."""
    print()
    line(*cells)
    line(*["---"] * len(cells))


def line(*cells):
    """A row of a table."""
    print("|", " | ".join(cells), "|")


def plot(rows, names, path):
    """Quality, amplification and transfer over the noise."""
    from kspike.plots import Chart, Series, charts

    levels, attacked = present(rows, "quality"), present(rows, "attack")
    percent = [100 * noise for noise in attacked]
    quality = [
        Series(
            [100 * noise for noise in levels],
            [picked(rows, "psnr", what="quality", noise=n, rec=rec).mean() for n in levels],
            rec,
        )
        for rec in ("zero-filled", *names)
    ]

    def mean(key, noise, rec, source):
        return picked(rows, key, **{"what": "attack", "noise": noise, "rec": rec, "made for": source}).mean()

    alpha = [Series(percent, [mean("alpha", noise, rec, rec) for noise in attacked], rec) for rec in names]
    pairs = [(rec, source) for source in ("TV", names[1]) for rec in ("TV", names[1])]
    crossed = [
        Series(percent, [mean("units", noise, rec, source) for noise in attacked], f"{rec}, made for {source}")
        for rec, source in pairs
    ]
    drawn = [
        Chart("Gaussian noise", "noise, %", "PSNR, dB", quality),
        Chart("attacked", "noise, %", r"amplification $\alpha$", alpha, log="x"),
        Chart("transferred", "noise, %", r"artifact / $\eta\,\sqrt{n^2/m}$", crossed, log="x"),
    ]
    charts(drawn, path, columns=3)


if __name__ == "__main__":
    main()
