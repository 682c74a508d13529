# SPDX-License-Identifier: MIT
"""Objective gap and error against FFT + inverse FFT pairs, for every method here; docs/convergence.md and .png.

    python bench/convergence.py              # four noise levels, two images, some minutes
    python bench/convergence.py --smoke      # tiny, nothing written

The data hold a spike, y = A x + eta A delta / ||A delta||, as an attack's do. x* is a complex128 solve of 6000
iterations, with its certificate beside it. Pairs are counted, not seconds: no clock is read.
"""

import argparse
import pathlib

import numpy as np

import kspike

DOCS = pathlib.Path(__file__).parents[1] / "docs"
LAM = {0.005: 3.2e-4, 0.02: 2.0e-3, 0.04: 5.6e-3, 0.08: 1.1e-2}  # the best for 256 x 256 ellipses
SEEDS = (3, 4)  # not those that the defaults were tuned on
EVERY = 10
AIM = 1e-3


def main():
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="64 x 64, one image, one level, nothing written")
    parser.add_argument("--most", type=int, default=240, help="pairs of each run (240)")
    arguments = parser.parse_args()
    side, lines = (64, 20) if arguments.smoke else (256, 40)
    levels, seeds = ({0.02: 2.0e-3}, SEEDS[:1]) if arguments.smoke else (LAM, SEEDS)
    rows, curves = [], {}
    for noise, lam in levels.items():
        found = [case(side, lines, noise, lam, seed, arguments.most) for seed in seeds]
        curves[noise] = {name: found[0][1][name] for name in found[0][1]}
        print(f"noise {noise:g}: relative certified gap of x* {max(proof for proof, _ in found):.1e}", flush=True)
        for name in found[0][1]:
            firsts = [first(runs[name]) for _, runs in found]
            last = max(runs[name][-1][1] for _, runs in found)
            rows.append((noise, name, firsts, last))
            print(f"  {name:<28} {words(firsts, arguments.most):<14} error then {last:.1e}", flush=True)
    if not arguments.smoke:
        write(rows, curves, arguments.most)


def case(side, lines, noise, lam, seed, most):
    """The relative gap proven for x*, and {method: [(pairs, error, relative gap)]} for one image."""
    mask = kspike.radial_mask((side, side), lines)
    exact = kspike.TVSolver(mask, lam, dtype="complex128")
    clean = exact.A(kspike.ellipses((side, side), seed=seed).astype("float64"))
    eta, location = noise * np.linalg.norm(clean), (side * 7 // 16, side * 7 // 16)
    y = clean + kspike.spike(exact.A, location, eta)
    best = exact.solve(y, 6000, 0)
    start = exact.solve(clean, 6000, 1e-5)

    def admm(tv, **begin):
        """The run of one solve, looked at every ten iterations."""
        runs = []
        for pairs in range(EVERY, most + 1, EVERY):
            if pairs <= 8 * EVERY:  # within an opening: a solve of its own
                info = tv.solve(y, pairs, 0, **begin)
            else:
                info = tv._solve(y[None], (), info.state.copy(), EVERY, 0.0)
            runs.append(look(pairs, info.x))
        return runs

    def look(pairs, x):
        gap = (exact.objective(x, y) - best.objective) / best.objective
        return pairs, float(np.abs(x - best.x).max()), max(gap, 1e-12)

    known = location, exact.spike_height(eta)
    runs = {
        "ADMM": admm(exact),
        "ADMM, from rec(y0)": admm(exact, state=start),
        "ADMM, from rec(y0) lifted": admm(exact, state=start, spike=known),
        "ADMM, no opening": admm(kspike.TVSolver(mask, lam, rho=exact.rho, dtype="complex128")),
        "plain ADMM, rho 0.3": admm(kspike.TVSolver(mask, lam, rho=0.3, relax=1, dtype="complex128")),
    }
    single = y.astype("complex64")  # the methods in Python: their errors here are far above its rounding
    for method, longest in ((kspike.PDHG, most), (kspike.FISTA, most // 2)):
        run, state = [], None
        for pairs in range(EVERY, longest + 1, EVERY):
            info = method(mask, lam=lam).solve(single, EVERY, 0, state=state)
            state = info.state
            run.append(look(pairs, info.x))
        runs[method.__name__] = run
    return best.certificate.relative, runs


def first(run):
    """The pairs after which the error was at most AIM; None if it never was."""
    return next((pairs for pairs, error, _ in run if error <= AIM), None)


def words(firsts, most):
    """Those numbers, one for each image."""
    return " / ".join(f"> {most}" if pairs is None else str(pairs) for pairs in firsts)


def write(rows, curves, most):
    """docs/convergence.md and docs/convergence.png."""
    names = list(dict.fromkeys(name for _, name, _, _ in rows))
    levels = list(dict.fromkeys(noise for noise, *_ in rows))
    table = {(noise, name): (firsts, last) for noise, name, firsts, last in rows}
    lines = [
        "# Convergence, measured",
        "",
        f"Pairs (FFT + inverse FFT) until ||x - x*||_inf <= {AIM:g}: ellipses, seeds {SEEDS}, 256 x 256, 40 radial",
        f"lines, a spike in the data; in steps of {EVERY}. Made by `python bench/convergence.py`.",
        "",
        "| noise | " + " | ".join(names) + " |",
        "| --- |" + " --- |" * len(names),
    ]
    for noise in levels:
        lines.append(
            f"| {100 * noise:g} % | " + " | ".join(words(table[noise, name][0], most) for name in names) + " |"
        )
    lines += ["", f"The larger error of the two images after {most} pairs:", ""]
    lines += ["| noise | " + " | ".join(names) + " |", "| --- |" + " --- |" * len(names)]
    for noise in levels:
        lines.append(f"| {100 * noise:g} % | " + " | ".join(f"{table[noise, name][1]:.1e}" for name in names) + " |")
    lines += [
        "",
        f"FISTA takes 20 inner steps, without a transform, in each pair, and was run for {most // 2} pairs.",
        "",
    ]
    lines += ["![objective gap and error against pairs](convergence.png)", ""]
    (DOCS / "convergence.md").write_text("\n".join(lines))
    draw(curves)


def draw(curves):
    """Error and gap of the first image against pairs, a column for each noise level."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.1 * len(curves), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(curves), sharex=True, sharey="row", squeeze=False)
    for column, (noise, runs) in enumerate(curves.items()):
        for row, label in ((0, r"$\Vert x - x^* \Vert_\infty$"), (1, "relative objective gap")):
            for name, run in runs.items():
                values = np.array(run)
                axes[row, column].semilogy(values[:, 0], values[:, 1 + row], label=name, linewidth=1.1)
            axes[row, column].grid(alpha=0.3, linewidth=0.5)
            if not column:
                axes[row, column].set_ylabel(label)
        axes[0, column].axhline(AIM, color="black", linewidth=0.6, linestyle=":")
        axes[0, column].set_title(f"{100 * noise:g} % noise", fontsize=10)
        axes[1, column].set_xlabel("pairs")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(DOCS / "convergence.png", dpi=75)


if __name__ == "__main__":
    main()
