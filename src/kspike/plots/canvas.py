# SPDX-License-Identifier: MIT
"""What all pictures share: a canvas, colours, frames and colour bars."""

from __future__ import annotations

import pathlib

from kspike import files

__all__ = ["FAINT", "INK", "MARK", "bar", "figure_of", "frame", "need_matplotlib", "save", "share"]

MARK = "#ff5340"  # frames of the attacked place
INK, FAINT = "#1a1a1a", "#666666"


def need_matplotlib():
    """Import matplotlib, or raise ImportError with what to type."""
    try:
        import matplotlib.figure  # noqa: F401 (what is asked is whether it can be imported)
    except ModuleNotFoundError as error:
        if error.name != "matplotlib":
            raise
        raise ImportError("pictures need matplotlib: pip install 'kspike[plot]'") from None


def figure_of(size, dpi):
    """A white figure of this size in inches, on a canvas of its own."""
    need_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure, path):
    """Write the figure in full or not at all, its format by the suffix of the path, .png where there is none."""
    path = pathlib.Path(path)
    path = path if path.suffix else path.with_name(f"{path.name}.png")
    files.whole(path, lambda file: figure.savefig(file, format=path.suffix[1:]))


def share(box, size):
    """(left, bottom, width, height) in inches as shares of the figure."""
    return [inches / size[k % 2] for k, inches in enumerate(box)]


def frame(axes, colour, width):
    """No ticks, a thin frame."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(edgecolor=colour, linewidth=width)


def bar(figure, drawn, box, label):
    """The colour bar of what was drawn, in its box (inches)."""
    axes = figure.add_axes(share(box, figure.get_size_inches()))
    made = figure.colorbar(drawn, cax=axes)
    made.outline.set(edgecolor=FAINT, linewidth=0.5)
    axes.tick_params(labelsize=7.5, length=2, width=0.5, color=FAINT, labelcolor=INK, pad=2)
    made.set_label(label, fontsize=8, color=INK)
    return made
