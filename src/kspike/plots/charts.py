# SPDX-License-Identifier: MIT
"""Numbers as curves, tables of colours and bands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kspike.plots.canvas import FAINT, INK, MARK, bar, figure_of, frame, need_matplotlib, save, share

__all__ = ["Chart", "Series", "charts", "curve", "heatmap"]

COLOURS = ("#1b3a6b", "#dd0019", "#2f8f6b", "#e08a00", "#7a4fa3", "#666666")


@dataclass(frozen=True, eq=False)
class Series:
    """One curve: y over x, both (count,)."""

    x: Any
    y: Any
    label: str = ""
    low: Any = None
    """With `high`, a band about the curve."""
    high: Any = None
    style: str = "o-"
    """matplotlib's marker and line: "o-" measured, "--" computed."""
    colour: int | None = None
    """Which of the colours; default: the next one for measured curves, grey for lines without a marker."""


@dataclass(frozen=True, eq=False)
class Chart:
    """One pair of axes: curves, or the table of colours `values` (y.size, x.size) with numbers from 0 to 1."""

    title: str
    xlabel: str
    ylabel: str
    series: list = field(default_factory=list)
    log: str = ""
    """Which axes are logarithmic: "", "x", "y" or "xy"."""
    values: Any = None
    x: Any = None
    y: Any = None
    label: str = ""
    """Of the colour bar."""
    ticks: Any = None
    """Of the x axis, where other numbers than matplotlib's are wanted."""


def charts(drawn, path=None, *, columns=2, caption=""):
    """Each `Chart` of a list, in rows of `columns`, with a legend where its series have labels; tables have none.

    Returns the matplotlib Figure; saves it where a path is given.
    """
    need_matplotlib()
    columns = min(columns, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = figure_of((4.3 * columns, 3.3 * rows), dpi=160)
    figure.set_layout_engine("constrained")
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False))
    for one in axes[len(drawn) :]:
        one.set_axis_off()
    for chart, one in zip(drawn, axes, strict=False):
        (_curves if chart.values is None else _table)(figure, one, chart)
        one.set_title(chart.title, fontsize=10, color=INK, math_fontfamily="cm")
        one.set_xlabel(chart.xlabel, fontsize=9, color=INK, math_fontfamily="cm")
        one.set_ylabel(chart.ylabel, fontsize=9, color=INK, math_fontfamily="cm")
        one.tick_params(labelsize=7.5, which="both", color=FAINT, labelcolor=INK)
        for spine in one.spines.values():
            spine.set(edgecolor=FAINT, linewidth=0.6)
    if caption:
        figure.supxlabel(caption, fontsize=9, color=INK, math_fontfamily="cm")
    if path is not None:
        save(figure, path)
    return figure


def _curves(figure, axes, chart):
    """The series of a chart."""
    from matplotlib.ticker import LogLocator, NullLocator

    marked = 0
    for series in chart.series:
        plain = series.style in ("-", "--", ":", "-.")
        at = (len(COLOURS) - 1 if plain else marked) if series.colour is None else series.colour
        marked += not plain and series.colour is None
        colour = COLOURS[at % len(COLOURS)]
        axes.plot(series.x, series.y, series.style, color=colour, label=series.label, markersize=3.5, linewidth=1.2)
        if series.low is not None:
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.15, linewidth=0)
    if "x" in chart.log:
        axes.set_xscale("log", base=2 if chart.ticks is not None and _powers(chart.ticks) else 10)
    if "y" in chart.log:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if high < 50 * low:  # less than two powers of ten, where matplotlib would label one
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_locator(NullLocator())
    if chart.ticks is not None:
        axes.set_xticks(chart.ticks, [f"{t:g}" for t in chart.ticks])
        axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3, linewidth=0.5)
    if any(series.label for series in chart.series):
        axes.legend(fontsize=7.5, frameon=False, labelcolor=INK)


def _powers(ticks):
    """Whether all are powers of two."""
    return all(float(np.log2(t)).is_integer() for t in ticks)


def _table(figure, axes, chart):
    """The values of a chart as colours."""
    drawn = axes.pcolormesh(chart.x, chart.y, chart.values, cmap="magma", vmin=0, vmax=1, shading="nearest")
    made = figure.colorbar(drawn, ax=axes, pad=0.02)
    made.outline.set(edgecolor=FAINT, linewidth=0.5)
    made.ax.tick_params(labelsize=7.5, length=2, width=0.5, color=FAINT, labelcolor=INK)
    made.set_label(chart.label, fontsize=8, color=INK)
    for series in chart.series:
        axes.plot(series.x, series.y, series.style, color="#35d0ff", linewidth=1.4)
    axes.set(xlim=_edges(chart.x), ylim=_edges(chart.y))


def _edges(centres):
    """Where the first and the last cell of a table end."""
    centres = np.asarray(centres, float)
    return 1.5 * centres[0] - 0.5 * centres[1], 1.5 * centres[-1] - 0.5 * centres[-2]


def heatmap(amplifications, path=None, *, label=r"amplification  $\alpha$"):
    """One number per location of the grid, (rows, cols), as colours and in figures; the largest is framed.

    Parameters
    ----------
    amplifications : real (rows, cols), as `Found.amplifications` or `Found.artifact_maxima`
    path : where to save the figure, its format by its suffix; None saves nothing
    label : of the colour bar

    Returns the matplotlib Figure.
    """
    need_matplotlib()
    from matplotlib.patches import Rectangle

    values = np.asarray(amplifications)
    if values.dtype.kind not in "iuf" or values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError(
            f"amplifications: expected finite real numbers (rows, cols), got {values.dtype} {values.shape}"
        )
    rows, cols = values.shape
    cell = 0.42 if max(values.shape) <= 16 else 6 / max(values.shape)
    width, height = max(cols * cell, 1.4), max(rows * cell, 1.4)
    size = (0.5 + width + 0.82, 0.5 + height + 0.15)
    figure = figure_of(size, dpi=240)
    axes = figure.add_axes(share((0.5, 0.5, width, height), size))
    drawn = axes.imshow(values, cmap="magma", interpolation="nearest", aspect="auto")
    frame(axes, FAINT, 0.5)
    for name, count, place in (("row", rows, axes.yaxis), ("column", cols, axes.xaxis)):
        place.set_ticks(range(0, count, max(1, count // 8)))
        place.set_label_text(f"{name} of the grid", fontsize=8, color=INK)
    axes.tick_params(labelsize=7.5, length=0, labelcolor=INK, pad=3)
    best = np.unravel_index(int(values.argmax()), values.shape)
    if cell == 0.42:
        dark = drawn.norm(values) < 0.6
        for (i, j), value in np.ndenumerate(values):
            colour, weight = "white" if dark[i, j] else "black", "bold" if (i, j) == best else "normal"
            axes.text(j, i, f"{value:#.3g}", ha="center", va="center", fontsize=7, color=colour, fontweight=weight)
    best_cell = Rectangle(
        (best[1] - 0.5, best[0] - 0.5), 1, 1, fill=False, edgecolor="#35d0ff", linewidth=1.6, clip_on=False
    )
    axes.add_patch(best_cell)
    made = bar(figure, drawn, (0.5 + width + 0.14, 0.5, 0.12, height), label)
    made.ax.yaxis.labelpad = 4
    if path is not None:
        save(figure, path)
    return figure


def curve(lams, values, path=None, *, label="criterion"):
    """A criterion against lam, both (count,), on a logarithmic axis of lam; the least is marked.

    Parameters
    ----------
    lams, values : as `Tuned.lams` and `Tuned.curve`
    path : where to save the figure, its format by its suffix; None saves nothing
    label : of the criterion

    Returns the matplotlib Figure.
    """
    need_matplotlib()
    lams, values = np.asarray(lams), np.asarray(values)
    if lams.ndim != 1 or lams.shape != values.shape or not lams.size:
        raise ValueError(f"lams, values: expected two of one shape (count,), got {lams.shape} and {values.shape}")
    figure = figure_of((4.2, 3.0), dpi=160)
    axes = figure.add_axes((0.17, 0.17, 0.79, 0.74))
    axes.semilogx(lams, values, "o-", color=INK, markersize=3.5, linewidth=1)
    best = int(values.argmin())
    axes.plot(lams[best], values[best], "o", color=MARK, markersize=7, fillstyle="none")
    axes.annotate(
        f"{lams[best]:.3g}", (lams[best], values[best]), (0, 9), textcoords="offset points", ha="center", fontsize=8
    )
    axes.set_xlabel("lam", fontsize=9, color=INK)
    axes.set_ylabel(label, fontsize=9, color=INK)
    axes.tick_params(labelsize=7.5, which="both", color=FAINT, labelcolor=INK)
    axes.grid(alpha=0.3, linewidth=0.5)
    if path is not None:
        save(figure, path)
    return figure
