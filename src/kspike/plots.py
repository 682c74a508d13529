# SPDX-License-Identifier: MIT
"""The pictures: matplotlib figures on their own canvas, without pyplot and its global state: threads may draw."""

from __future__ import annotations

import numpy as np

from kspike import door

__all__ = ["curve", "heatmap", "need_matplotlib", "triptych"]

SIDE = 3.0  # inches of the longer side of a panel
PANEL = 768  # pixels that a panel should have at least
REDS = ("#ffd2c4", "#ff8a70", "#fb4733", "#dd0019")  # from just above 1 to the largest value
ABOVE = 1.001  # from here on a modulus is red, not white
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


def triptych(image, perturbed, reconstruction, location, path=None, *, zoom=None, caption=""):
    """Image | perturbed image with a zoom | reconstruction with the same zoom, as Figure 3 of arXiv 2206.05289.

    Moduli from 0 to 1 are grey, black to white. Those above 1.001 are red, up to the largest of the three panels, with
    a colour bar of their own. Up to a side of 1536 a pixel of the image is a whole number of pixels of the figure, so
    that no spike is averaged away.

    Parameters
    ----------
    image, perturbed, reconstruction : x, x + A* e and rec(y + e), each (rows, cols), real or complex
    location : (row, col) of the attack
    path : where to save the figure, its format by its suffix; None saves nothing
    zoom : half the side, in pixels, of the square that is magnified; default 1/30 of the longer side, at least 6; 0 for
        none. There is none either where it would magnify less than 1.5 times.
    caption : a line beneath; matplotlib's mathtext between dollars

    Returns the matplotlib Figure.
    """
    need_matplotlib()
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    panels = [_modulus(name, x) for name, x in (("image", image), ("perturbed", perturbed))]
    panels.append(_modulus("reconstruction", reconstruction))
    rows, cols = shape = panels[0].shape
    if any(panel.shape != shape for panel in panels):
        raise ValueError(f"expected three images of one shape, got {', '.join(str(panel.shape) for panel in panels)}")
    row, col = location
    if not (0 <= row < rows and 0 <= col < cols):
        raise ValueError(f"location: expected (row, col) inside {rows} x {cols}, got ({row}, {col})")
    longer = max(shape)
    zoom = max(6, round(longer / 30)) if zoom is None else door.whole("zoom", zoom, 0)
    top = max(1.0, *(float(panel.max()) for panel in panels))
    reds = LinearSegmentedColormap.from_list("above 1", REDS)

    width, height = max(SIDE * cols / longer, 1.9), max(SIDE * rows / longer, 1.6)
    left, gap, below, above, bars = 0.12, 0.12, 0.42 if caption else 0.12, 0.36, 0.82
    size = (left + 3 * width + 2 * gap + bars, below + height + above)
    figure = _figure(size, dpi=min(512.0, max(1, -(-PANEL // longer)) * longer / SIDE))
    titles = (r"image  $x$", r"perturbed  $x + A^{\dagger} e$", r"reconstruction  $\mathrm{rec}(y + e)$")
    for k, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        box = (left + k * (width + gap), below, width, height)
        axes = figure.add_axes(_share(box, size))
        grey = np.rint(255 * np.minimum(panel, 1)).astype(np.uint8)
        colours = np.repeat(grey[..., None], 3, axis=-1)
        red = panel > ABOVE
        colours[red] = reds((panel[red] - 1) / (top - 1), bytes=True)[:, :3]
        axes.imshow(colours, interpolation="none" if longer <= 512 * SIDE else "antialiased")
        axes.set_title(title, fontsize=10, color=INK, pad=6, math_fontfamily="cm")
        _frame(axes, FAINT, 0.5)
        if k and zoom:
            _inset(axes, colours, (row, col), zoom)

    bar = left + 3 * width + 2 * gap + 0.14
    spikes = top > ABOVE
    grey_height = 0.48 * height if spikes else height
    maps = [("gray", (0.0, 1.0), (below, grey_height), {0: "0", 0.5: "0.5", 1: "1"}, "modulus")]
    if spikes:
        maps.append((reds, (1.0, top), (below + height - grey_height, grey_height), _red_ticks(top), "above 1"))
    for colourmap, limits, (bottom, extent), ticks, label in maps:
        axes = figure.add_axes(_share((bar, bottom, 0.12, extent), size))
        drawn = figure.colorbar(ScalarMappable(Normalize(*limits), colourmap), cax=axes)
        drawn.outline.set(edgecolor=FAINT, linewidth=0.5)
        drawn.ax.tick_params(labelsize=7.5, length=2, width=0.5, color=FAINT, labelcolor=INK, pad=2)
        drawn.ax.set_yticks(list(ticks), list(ticks.values()))
        drawn.set_label(label, fontsize=8, color=INK)
        drawn.ax.yaxis.set_label_coords(3.9, 0.5)
    if caption:
        middle = (left + (3 * width + 2 * gap) / 2) / size[0]
        figure.text(
            middle, 0.2 / size[1], caption, fontsize=9.5, color=INK, ha="center", va="center", math_fontfamily="cm"
        )
    if path is not None:
        figure.savefig(path)
    return figure


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
    figure = _figure(size, dpi=240)
    axes = figure.add_axes(_share((0.5, 0.5, width, height), size))
    drawn = axes.imshow(values, cmap="magma", interpolation="nearest", aspect="auto")
    _frame(axes, FAINT, 0.5)
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
    frame = Rectangle(
        (best[1] - 0.5, best[0] - 0.5), 1, 1, fill=False, edgecolor="#35d0ff", linewidth=1.6, clip_on=False
    )
    axes.add_patch(frame)
    bar = figure.colorbar(drawn, cax=figure.add_axes(_share((0.5 + width + 0.14, 0.5, 0.12, height), size)))
    bar.outline.set(edgecolor=FAINT, linewidth=0.5)
    bar.ax.tick_params(labelsize=7.5, length=2, width=0.5, color=FAINT, labelcolor=INK, pad=2)
    bar.set_label(label, fontsize=8, color=INK, labelpad=4)
    if path is not None:
        figure.savefig(path)
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
    figure = _figure((4.2, 3.0), dpi=160)
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
        figure.savefig(path)
    return figure


def _figure(size, dpi):
    """A white figure of this size in inches, on a canvas of its own."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _share(box, size):
    """(left, bottom, width, height) in inches as shares of the figure."""
    return [inches / size[k % 2] for k, inches in enumerate(box)]


def _frame(axes, colour, width):
    """No ticks, a thin frame."""
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(edgecolor=colour, linewidth=width)


def _inset(axes, colours, location, zoom):
    """Magnify the pixels within `zoom` of the location into the corner of the panel that is furthest from it."""
    rows, cols, _ = colours.shape
    across = 0.44 * min(rows, cols)
    if across < 1.5 * (2 * zoom + 1):
        return
    row, col = (min(max(at, zoom), n - 1 - zoom) for at, n in zip(location, (rows, cols), strict=True))
    width, height = across / cols, across / rows
    margin = 0.025 * min(rows, cols)
    x = 1 - margin / cols - width if location[1] < cols / 2 else margin / cols
    y = margin / rows if location[0] < rows / 2 else 1 - margin / rows - height
    inset = axes.inset_axes([x, y, width, height])
    inset.imshow(colours, interpolation="nearest")
    inset.set(xlim=(col - zoom - 0.5, col + zoom + 0.5), ylim=(row + zoom + 0.5, row - zoom - 0.5))
    _frame(inset, MARK, 1.0)
    axes.indicate_inset_zoom(inset, edgecolor=MARK, linewidth=0.8, alpha=1)


def _red_ticks(top):
    """1, round numbers between, and the largest value itself, each with its label."""
    step = next(s * 10.0**p for p in range(-12, 300) for s in (1, 2, 5) if (top - 1) / (s * 10.0**p) <= 4)
    inner = np.arange(np.ceil(1 / step) * step, top, step)
    apart = 0.12 * (top - 1)
    ticks = [1.0, *(float(t) for t in inner if 1 + apart < t < top - apart), top]
    digits = max(0, int(1 - np.floor(np.log10(step))))
    return {t: np.format_float_positional(t, digits, trim="-") for t in ticks}


def _modulus(name, x):
    """|x| as float64 (rows, cols), checked."""
    x = np.asarray(x)
    if x.dtype.kind not in "biufc" or x.ndim != 2 or not x.size:
        raise ValueError(f"{name}: expected numbers of shape (rows, cols), got {x.dtype} of shape {x.shape}")
    door.finite(name, x)
    return np.abs(x.astype(np.complex128 if x.dtype.kind == "c" else np.float64))
