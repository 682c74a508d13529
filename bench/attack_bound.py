# SPDX-License-Identifier: MIT
"""How close the attack comes to the certified bound: a table, and a plot, over images, pixels, noise and both signs.

    python bench/attack_bound.py --data ../shared/data --plot docs/attack-bound.png

One line of JSON per row. The artifact is that of recTV in complex128 at the pixel, with the sign that the bound is for.
"""

import argparse
import json
import pathlib

import numpy as np

import kspike

PIXELS = [(112, 112), (48, 176), (144, 80)]


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=pathlib.Path, help="folder with masks.npz and ellipses.npz; else generated ones")
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--noise", type=lambda s: [float(n) for n in s.split(",")], default=[0.01, 0.04, 0.08])
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("bound.json"))
    parser.add_argument("--plot", type=pathlib.Path)
    arguments = parser.parse_args()
    mask, images = kspike.radial_mask((256, 256), lines=40), None
    if arguments.data:
        with np.load(arguments.data / "ellipses.npz") as file:
            images = file["images"][: arguments.images].astype(float)
        with np.load(arguments.data / "masks.npz") as file:
            mask = file["radial40"].astype(bool)
    else:
        images = [kspike.ellipses((256, 256), seed=i).astype(float) for i in range(arguments.images)]
    rows = []
    with arguments.out.open("w") as out:
        for i, image in enumerate(images):
            for noise in arguments.noise:
                for row in cells(image, mask, noise, arguments.pairs):
                    rows.append({"image": i, "noise": noise, **row})
                    print(json.dumps(rows[-1]), file=out, flush=True)
    if arguments.plot:
        plot(rows, arguments.plot)


def cells(image, mask, noise, pairs):
    """A row per pixel and sign: the certified bound, and the default and the strong attack, in units."""
    tv = kspike.TVSolver(mask, 0.14 * noise, dtype="complex128")
    y = tv.A(image)
    eta = noise * float(np.linalg.norm(y))
    unit = eta * np.sqrt(mask.size / tv.samples)
    for pixel in PIXELS:
        for sign, start in ((1, "plus"), (-1, "minus")):
            certified = kspike.certify(tv, y, eta, pixel, sign, pairs=pairs)
            row = {"pixel": pixel, "sign": sign, "bound": certified.units, "residual": certified.residual / unit}
            for preset in ("default", "strong"):
                found = kspike.attack(tv, y, eta=eta, at=[pixel], preset=preset, start=start, radius=0, final=200)
                reached = sign * (found.reconstruction - certified.clean)[pixel].real / unit
                assert reached <= certified.units, "an attack above its certified bound"
                row[preset] = float(reached)
            yield row


def plot(rows, path):
    """Each row a point: what the strong attack reached of its bound, over the noise."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    for sign, marker, name, aside in ((1, "+", "plus", 1.03), (-1, "_", "minus", 0.97)):
        chosen = [row for row in rows if row["sign"] == sign]
        noise = [100 * aside * row["noise"] for row in chosen]
        axes.plot(noise, [row["strong"] / row["bound"] for row in chosen], f"C0{marker}", label=f"60 steps, {name}")
        axes.plot(noise, [row["default"] / row["bound"] for row in chosen], f"C1{marker}", label=f"15 steps, {name}")
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="noise in % of the data", ylabel="artifact / certified bound")
    ticks = sorted({100 * row["noise"] for row in rows})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
