# SPDX-License-Identifier: MIT
"""Images side by side, as in arXiv 2206.05289: grey from 0 to 1, red beyond, the attacked place magnified."""

from __future__ import annotations

import numpy as np

from kspike import door
from kspike.plots.canvas import FAINT, INK, MARK, bar, figure_of, frame, need_matplotlib, save, share

__all__ = ["panels", "triptych"]

WIDTH = 9.0  # inches of all panels of a row, none of which is wider than 3
PANEL = 768, 512  # pixels that a panel should have at least, in up to three columns and in more
REDS = ("#ffd2c4", "#ff8a70", "#fb4733", "#dd0019")  # from just above 1 to the largest value
ABOVE = 1.001  # from here on a modulus is red, not white


def triptych(image, perturbed, reconstruction, location, path=None, *, zoom=None, caption=""):
    """Image | perturbed image with a zoom | reconstruction with the same zoom, as Figure 3 of arXiv 2206.05289.

    Parameters
    ----------
    image, perturbed, reconstruction : x, x + A* e and rec(y + e), each (rows, cols), real or complex
    location : (row, col) of the attack
    path, zoom, caption : as for `panels`

    Returns the matplotlib Figure.
    """
    need_matplotlib()
    names = ("image", "perturbed", "reconstruction")
    row = [_modulus(name, x) for name, x in zip(names, (image, perturbed, reconstruction), strict=True)]
    titles = (r"image  $x$", r"perturbed  $x + A^{\dagger} e$", r"reconstruction  $\mathrm{rec}(y + e)$")
    places = [[None, location, location]]
    return panels([row], path, titles=titles, locations=places, zoom=zoom, caption=caption)


def panels(
    images, path=None, *, titles=(), names=(), notes=(), locations=None, zoom=None, caption="", negative=(), bars=True
):
    """Images in rows and columns, their moduli on one scale: grey from 0 to 1, black to white, and red beyond.

    Moduli above 1.001 are red, up to the largest of all panels, on a scale of square roots with a colour bar of its
    own. Up to a side of 1536 a pixel of an image is a whole number of pixels of the figure, so that no spike is
    averaged away.

    Parameters
    ----------
    images : rows of images (rows, cols), real or complex, all of one shape; None leaves a place empty
    path : where to save the figure, its format by its suffix; None saves nothing
    titles : of the columns
    names : of the rows, along the left
    notes : rows of texts, of a line or two, one beneath each panel
    locations : rows of (row, col) or None: what is magnified
    zoom : half the side, in pixels, of the square that is magnified; default 1/30 of the longer side, at least 6; 0 for
        none. There is none either where it would magnify less than 1.5 times.
    caption : a line beneath; matplotlib's mathtext between dollars here and in all texts
    negative : pairs (row, column) of panels drawn black on white, as a mask
    bars : whether there are colour bars

    Returns the matplotlib Figure.
    """
    need_matplotlib()
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm
    from matplotlib.ticker import NullLocator

    grid = [
        [None if x is None else _modulus(f"images[{i}][{j}]", x) for j, x in enumerate(row)]
        for i, row in enumerate(images)
    ]
    shapes = [panel.shape for row in grid for panel in row if panel is not None]
    if len(set(shapes)) != 1 or len({len(row) for row in grid}) != 1:
        raise ValueError(f"expected rows of as many images of one shape, got {', '.join(map(str, shapes))}")
    rows, cols = shape = shapes[0]
    locations = locations or [[None] * len(row) for row in grid]
    for place in (place for row in locations for place in row if place is not None):
        if not (0 <= place[0] < rows and 0 <= place[1] < cols):
            raise ValueError(f"location: expected (row, col) inside {rows} x {cols}, got ({place[0]}, {place[1]})")
    longer, count = max(shape), len(grid[0])
    zoom = max(6, round(longer / 30)) if zoom is None else door.whole("zoom", zoom, 0)
    top = max(1.0, *(float(panel.max()) for row in grid for panel in row if panel is not None))
    scale = PowerNorm(0.5, 1.0, top if top > ABOVE else 2.0)
    reds = LinearSegmentedColormap.from_list("above 1", REDS)

    side = min(3.0, WIDTH / count)
    width, height = max(side * cols / longer, 1.9 if count <= 3 else 0.2), max(side * rows / longer, 1.6)
    lines = max((text.count("\n") + 1 for row in notes for text in row), default=0)
    gap, note, right = 0.12, 0.08 + 0.16 * lines if notes else 0.0, 0.82 if bars else 0.12
    left, below, above = 0.36 if names else 0.12, 0.42 if caption else 0.12, 0.36 if titles else 0.12
    tall = len(grid) * (height + note) + (len(grid) - 1) * gap
    size = (left + count * width + (count - 1) * gap + right, below + tall + above)
    wanted = PANEL[count > 3]
    figure = figure_of(size, dpi=min(512.0, max(1, -(-wanted // longer)) * longer / side))
    for i, row in enumerate(grid):
        bottom = below + (len(grid) - 1 - i) * (height + note + gap) + note
        if names:
            middle = (bottom + height / 2) / size[1]
            figure.text(0.18 / size[0], middle, names[i], fontsize=10, color=INK, rotation=90, ha="center", va="center")
        for j, panel in enumerate(row):
            if panel is None:
                continue
            axes = figure.add_axes(share((left + j * (width + gap), bottom, width, height), size))
            colours = _colours(1 - panel if (i, j) in negative else panel, reds, scale)
            axes.imshow(colours, interpolation="none" if longer <= 1536 else "antialiased")
            frame(axes, FAINT, 0.5)
            if titles and i == 0:
                axes.set_title(titles[j], fontsize=10, color=INK, pad=6, math_fontfamily="cm")
            if notes:
                axes.set_xlabel(notes[i][j], fontsize=9, color=INK, labelpad=4, math_fontfamily="cm")
            if locations[i][j] is not None and zoom:
                _inset(axes, colours, locations[i][j], zoom)

    if bars:
        place, spikes = size[0] - right + 0.14, top > ABOVE
        floor, tall = below + note, tall - note
        grey = 0.48 * tall if spikes else tall
        maps = [(ScalarMappable(Normalize(0.0, 1.0), "gray"), (floor, grey), {0: "0", 0.5: "0.5", 1: "1"}, "modulus")]
        if spikes:
            maps.append((ScalarMappable(scale, reds), (floor + tall - grey, grey), _red_ticks(top, scale), "above 1"))
        for drawn, (bottom, extent), ticks, label in maps:
            made = bar(figure, drawn, (place, bottom, 0.12, extent), label)
            made.ax.set_yticks(list(ticks), list(ticks.values()))
            made.ax.yaxis.set_minor_locator(NullLocator())
            made.ax.yaxis.set_label_coords(3.9, 0.5)
    if caption:
        middle = (left + (count * width + (count - 1) * gap) / 2) / size[0]
        figure.text(
            middle, 0.2 / size[1], caption, fontsize=9.5, color=INK, ha="center", va="center", math_fontfamily="cm"
        )
    if path is not None:
        save(figure, path)
    return figure


def _colours(panel, reds, scale):
    """The image as RGB bytes."""
    grey = np.rint(255 * np.clip(panel, 0, 1)).astype(np.uint8)
    colours = np.repeat(grey[..., None], 3, axis=-1)
    red = panel > ABOVE
    colours[red] = reds(scale(panel[red]), bytes=True)[:, :3]
    return colours


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
    frame(inset, MARK, 1.0)
    axes.indicate_inset_zoom(inset, edgecolor=MARK, linewidth=0.8, alpha=1)


def _red_ticks(top, scale):
    """1, round numbers between that do not crowd on the scale, and the largest value itself, each with its label."""
    step = next(s * 10.0**p for p in range(-1, 300) for s in (1, 2, 5) if (top - 1) / (s * 10.0**p) <= 4)
    ticks = [1.0]
    for tick in map(float, np.arange(np.ceil(1 / step) * step, top, step)):
        if scale(tick) - scale(ticks[-1]) > 0.12 and 1 - scale(tick) > 0.12:
            ticks.append(tick)
    digits = max(0, int(1 - np.floor(np.log10(step))))
    return {t: np.format_float_positional(t, digits, trim="-") for t in [*ticks, top]}


def _modulus(name, x):
    """|x| as float64 (rows, cols), checked."""
    x = np.asarray(x)
    if x.dtype.kind not in "biufc" or x.ndim != 2 or not x.size:
        raise ValueError(f"{name}: expected numbers of shape (rows, cols), got {x.dtype} of shape {x.shape}")
    door.finite(name, x)
    return np.abs(x.astype(np.complex128 if x.dtype.kind == "c" else np.float64))
