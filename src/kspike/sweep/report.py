# SPDX-License-Identifier: MIT
"""The report: one HTML page with tables, curves, maps, the worst artifacts, failures and provenance, and no network."""

from __future__ import annotations

import html
import json
import math
import time
import warnings

import numpy as np

from kspike.sweep.compute import prepare
from kspike.sweep.drawing import coloured, line_chart, map_chart, picture
from kspike.sweep.results import collect
from kspike.sweep.store import replace
from kspike.sweep.style import STYLE

__all__ = ["report"]

SHOWN = 6  # of the worst artifacts
AGAIN = 2000  # iterations at most, for those to be solved again
REASONS = 30  # failures that are listed


def report(specification, store, path=None):
    """Write the page from the parts that are there, to FOLDER/report.html unless a path is given; its path.

    The artifacts shown are those of the perturbations that were kept, solved again: the figure beside the recorded one
    is a second opinion.
    """
    results = collect(specification, store)
    path = store.folder / "report.html" if path is None else path
    body = "\n".join(
        [
            _head(results),
            *(_section(results, r) for r in range(len(specification.reconstructions))),
            _gallery(results, store),
            _failures(results),
            _provenance(results),
        ]
    )
    title = html.escape(specification.name)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body><main>\n{body}\n</main></body></html>\n"
    )
    replace(path, page.encode())
    return path


def _head(results):
    """Name, what was swept, and the figures that matter most."""
    specification = results.specification
    total = math.prod(specification.sizes) * len(specification.locations)
    there = np.isfinite(results.artifact_max)
    seconds = float(np.nansum(results.tables["cpu"]))
    units = results.selected("units")
    pairs = results.pairs[there & (results.pairs >= 0)]
    tiles = [
        (f"{there.sum():,}", f"attacks of {total:,}" if there.sum() < total else "attacks, all done"),
        (_best(results.selected("amplification")), "largest amplification α"),
        (f"{np.nanmedian(units):.2f}" if np.isfinite(units).any() else "-", "median artifact, in spikes"),
        (f"{1e3 * seconds / max(there.sum(), 1):.0f} ms", "of a core an attack"),
        (f"{pairs.mean():.0f}" if pairs.size else "-", "FFT pairs an attack"),
        (f"{len(results.failures)}", "tasks failed"),
    ]
    names = ("reconstruction", "mask", "noise level", "image")
    swept = " × ".join(f"{n} {name}{'s'[: n != 1]}" for n, name in zip(specification.sizes, names, strict=True))
    rows, cols = specification.shape
    return (
        f'<header><p class="kicker">kspike sweep</p><h1>{html.escape(specification.name)}</h1>'
        f'<p class="lead">{swept} × {len(specification.locations)} locations, images of {rows} × {cols}</p></header>'
        '<section class="tiles">'
        + "".join(f'<div class="tile"><b>{value}</b><span>{text}</span></div>' for value, text in tiles)
        + "</section>"
    )


def _section(results, r):
    """One reconstruction: alpha over the noise, the tables, and where the artifacts are large."""
    specification = results.specification
    noise, masks = specification.noise, specification.labels["mask"]
    parts = [f"<section><h2>{html.escape(specification.labels['reconstruction'][r])}</h2>"]
    for name, title, text, label in (
        (
            "amplification",
            "Amplification α",
            "‖rec(y + e) − rec(y)‖<sub>∞</sub> / ‖A*e‖<sub>∞</sub> at the worst location of each image: mean ± "
            "standard deviation over the images. The dotted line is n²/m.",
            "α",
        ),
        (
            "units",
            "Artifact, in spikes",
            "‖rec(y + e) − rec(y)‖<sub>∞</sub> / (η √(n²/m)): 1 is the height of a single pixel that all of the "
            "perturbation is spent on.",
            "artifact / η√(n²/m)",
        ),
    ):
        values = results.selected(name)[r]  # (masks, noise, images)
        mean, spread, count = _moments(values)
        factors = results.factors if name == "amplification" else [None] * len(masks)
        series = [(masks[m], noise, mean[m], spread[m], factors[m]) for m in range(len(masks))]
        parts.append(f"<h3>{title}</h3><p>{text}</p>")
        parts.append(f'<div class="pair"><div class="card">{line_chart(series, label)}</div>')
        parts.append(_table(results, mean, spread, count) + "</div>")
    maps = _maps(results, r)
    return "".join([*parts, maps, "</section>"])


def _table(results, mean, spread, count):
    """Rows of noise levels, columns of masks; where images are missing, how many there are."""
    specification = results.specification
    heads = "".join(
        f"<th>{html.escape(name)}<small>n²/m {factor:.2f}</small></th>"
        for name, factor in zip(specification.labels["mask"], results.factors, strict=True)
    )
    full, lines = len(specification.images), []
    for n, noise in enumerate(specification.noise):
        cells = []
        for m in range(len(specification.masks)):
            if not count[m, n]:
                cells.append('<td class="none">-</td>')
                continue
            few = f"<small>{count[m, n]} of {full}</small>" if count[m, n] < full else ""
            cells.append(f"<td>{mean[m, n]:.2f} <i>± {spread[m, n]:.2f}</i>{few}</td>")
        lines.append(f"<tr><th>{100 * noise:g} %</th>{''.join(cells)}</tr>")
    return f'<div class="card scroll"><table><tr><th>noise</th>{heads}</tr>{"".join(lines)}</table></div>'


def _maps(results, r):
    """The mean artifact at each place of the grid, for each mask."""
    specification = results.specification
    if specification.grid is None or math.prod(specification.grid) == 1:
        return ""
    cards = []
    for m, name in enumerate(specification.labels["mask"]):
        values = results.units[r, m].reshape(-1, len(specification.locations))
        values = values[np.isfinite(values).all(-1)]
        if len(values):
            drawn = map_chart(values.mean(0).reshape(specification.grid), name)
            cards.append(f'<figure class="card">{drawn}<figcaption>{html.escape(name)}</figcaption></figure>')
    text = "<h3>Where</h3><p>The artifact in spikes at each location, mean over images and noise levels.</p>"
    return f'{text}<div class="maps">{"".join(cards)}</div>' if cards else ""


def _gallery(results, store):
    """The largest artifacts, at most one for each reconstruction, mask and image."""
    specification = results.specification
    title = "<section><h2>The worst artifacts</h2>"
    if "perturbation" not in specification.keep:
        return f"{title}<p>None to show: the specification keeps no <code>perturbation</code>.</p></section>"
    values = results.selected("artifact_max")
    order = np.argsort(np.where(np.isfinite(values), -values, np.inf), axis=None)[: np.isfinite(values).sum()]
    cells = [tuple(int(i) for i in np.unravel_index(flat, values.shape)) for flat in order]
    chosen, seen = [], set()
    for apart in (True, False):  # first, masks and images that all differ
        for r, m, n, i in cells:
            keys = {("mask", r, m), ("image", i)} if apart else {("both", r, m, i)}
            if len(chosen) < SHOWN and not keys & seen:
                chosen.append((r, m, n, i))
                seen |= {("mask", r, m), ("image", i), ("both", r, m, i)}
    cards = [_worst(results, store, cell) for cell in chosen]
    return (
        f"{title}<p>What the perturbation does to the image itself, and to its reconstruction, on one scale: moduli "
        "above 1 are red. The squares magnify the attacked place. Each is solved again from the perturbation that was "
        "kept.</p>"
        f'<div class="gallery">{"".join(cards)}</div></section>'
    )


def _worst(results, store, cell):
    """One artifact: two images with their zooms, and what they are."""
    specification = results.specification
    arrays, about = store.read(results.ids[cell])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a solve took long is in the record of its task
        x, rec, A, y, _ = prepare(about["description"] | {"backend": None}, store)  # on whatever runs here
        clean, dirty = _solve_again(rec, y, arrays["perturbation"])
    perturbed = x + A.adjoint(arrays["perturbation"])
    panels = [np.abs(v) / np.abs(x).max() for v in (perturbed, dirty)]
    row, col = specification.locations[results.best[cell]]
    top = max(float(panel.max()) for panel in panels)
    shown = "".join(
        _panel(panel, top, row, col, name) for panel, name in zip(panels, ("image + A*e", "rec(y + e)"), strict=True)
    )
    r, m, n, i = cell
    labels = specification.labels
    mask, image, name = (html.escape(labels[key][k]) for key, k in (("mask", m), ("image", i), ("reconstruction", r)))
    recorded, again = results.selected("artifact_max")[cell], float(np.abs(dirty - clean).max())
    alpha, units = (results.selected(what)[cell] for what in ("amplification", "units"))
    facts = (
        f"<b>{mask}</b>, {100 * labels['noise'][n]:g} % noise, {image} · {name}<br>α {alpha:.2f} · "
        f"artifact {recorded:.2f} ({again:.2f} solved again) · {units:.2f} spikes · at ({row}, {col})"
    )
    return f'<figure class="card worst"><div class="row">{shown}</div><figcaption>{facts}</figcaption></figure>'


def _solve_again(rec, y, e):
    """rec(y) and rec(y + e)."""
    if hasattr(rec, "warm"):
        kept = rec.warm(y)
        return kept.x, kept.repeat(1)((y + e)[None], max_iterations=AGAIN)[0]
    return rec.vjp(y)[0], rec.vjp(y + e)[0]


def _panel(modulus, top, row, col, name):
    """An image with the square around (row, col) magnified, in the corner that is furthest from it."""
    rows, cols = modulus.shape
    half = max(4, round(max(rows, cols) / 32))
    at = [min(max(place, half), side - 1 - half) for place, side in ((row, rows), (col, cols))]
    cut = modulus[at[0] - half : at[0] + half + 1, at[1] - half : at[1] + half + 1]
    corner = f"{'bottom' if row < rows / 2 else 'top'} {'right' if col < cols / 2 else 'left'}"
    frame = (
        f"left:{100 * (at[1] - half) / cols:.2f}%;top:{100 * (at[0] - half) / rows:.2f}%;"
        f"width:{100 * (2 * half + 1) / cols:.2f}%;height:{100 * (2 * half + 1) / rows:.2f}%"
    )
    return (
        f'<div><div class="panel"><img alt="{name}" src="{picture(coloured(modulus, top))}"><i style="{frame}"></i>'
        f'<img class="zoom {corner}" alt="{name}, magnified" src="{picture(coloured(cut, top))}">'
        f"</div><small>{name}</small></div>"
    )


def _failures(results):
    """What failed and why, and what was warned of."""
    failed = [
        f"<tr><td><code>{task[:12]}</code></td><td>{html.escape(_where(record['description']))}</td>"
        f"<td>{html.escape(record['reason'])}</td></tr>"
        for task, record in list(results.failures.items())[:REASONS]
    ]
    warned = [f"<tr><td>{count}</td><td>{html.escape(text)}</td></tr>" for text, count in results.warnings.items()]
    parts = ["<section><h2>Failures and warnings</h2>"]
    left = f", {results.missing:,} tasks are still to be done" if results.missing else ""
    if failed:
        parts.append(f"<p>{len(results.failures)} tasks failed{left}.</p>")
        parts.append(f'<div class="card scroll"><table class="text">{"".join(failed)}</table></div>')
    else:
        parts.append(f"<p>No task failed{left}.</p>")
    if warned:
        parts.append("<h3>Warnings, and of how many tasks</h3>")
        parts.append(f'<div class="card scroll"><table class="text">{"".join(warned[:REASONS])}</table></div>')
    return "".join([*parts, "</section>"])


def _provenance(results):
    """Software, machine, time, and the specification itself."""
    rows = []
    for name, values in results.provenance.items():
        many = len(values) > 1
        text = ", ".join(f"{value or '-'}{f' ({count} tasks)' * many}" for value, count in values.items())
        rows.append((name, text))
    lams = np.unique(results.tables["lam"][np.isfinite(results.tables["lam"])])
    if results.finished:
        first, last = (time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(t)) for t in results.finished)
        rows.append(("finished", f"from {first} to {last}"))
    hours = [f"{np.nansum(results.tables[name]) / 3600:.3g}" for name in ("cpu", "seconds")]
    rows.append(("time", f"{hours[0]} hours of one core, {hours[1]} hours by the workers' clocks"))
    counted = results.pairs[results.pairs >= 0]
    rows.append(("FFT pairs", f"{counted.sum():,}" if counted.size else "not counted"))
    if lams.size:
        rows.append(("lam", ", ".join(f"{lam:.3g}" for lam in lams)))
    table = "".join(f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in rows)
    source = html.escape(json.dumps(results.specification.source, indent=1, default=str))
    return (
        f'<section><h2>Provenance</h2><div class="card scroll"><table class="text">{table}</table></div>'
        f"<details><summary>The specification</summary><pre>{source}</pre></details></section>"
    )


def _where(description):
    """A task in words."""
    parts = (description[key]["name"] for key in ("reconstruction", "mask", "image"))
    return f"{', '.join(parts)}, {100 * description['noise']:g} %"


def _moments(values):
    """Mean, standard deviation and count over the last axis, of what is there; NaN where nothing is."""
    count = np.isfinite(values).sum(-1)
    total = np.where(count, count, np.nan)
    mean = np.nansum(values, -1) / total
    spread = np.sqrt(np.nansum((values - mean[..., None]) ** 2, -1) / np.where(count > 1, count - 1, 1)) + 0 * mean
    return mean, spread, count


def _best(values):
    return f"{np.nanmax(values):.2f}" if np.isfinite(values).any() else "-"
