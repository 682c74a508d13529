# SPDX-License-Identifier: MIT
"""What the report draws: SVG charts and PNG images, as texts that stand inside a page."""

from __future__ import annotations

import base64
import html
import itertools
import math
import struct
import zlib

import numpy as np

__all__ = ["COLOURS", "coloured", "line_chart", "map_chart", "picture"]

COLOURS = ("#2f6fde", "#e0533a", "#1f9d7a", "#8a5bd1", "#d99a1c", "#3aa7c9", "#c2458f", "#6b7a2f")
REDS = np.array([(255, 210, 196), (255, 138, 112), (251, 71, 51), (221, 0, 25)])
HEAT = np.array([(40, 20, 80), (130, 40, 120), (220, 80, 90), (250, 160, 80), (252, 240, 170)])
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 660, 360, 52, 132, 16, 46


def line_chart(series, label, least=0.0):
    """Lines over the noise with a band of one standard deviation: an SVG.

    series : (name, noise levels, means, deviations, reference or None); the reference is a dashed level, NaN a gap
    label : of the upright axis, HTML
    """
    levels = sorted({float(v) for _, noise, *_ in series for v in noise})
    tops = [np.nanmax(np.add(mean, spread), initial=0.0) for _, _, mean, spread, _ in series]
    ticks = _round_ticks(least, max([*tops, *(r for *_, r in series if r is not None), 1e-12]))
    low, high = least, ticks[-1]

    def at_x(noise):
        span = math.log(levels[-1] / levels[0])
        share = math.log(noise / levels[0]) / span if span else 0.5
        return LEFT + 14 + share * (WIDTH - LEFT - RIGHT - 28)

    def at_y(value):
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for tick in ticks:
        y = at_y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for level in levels:
        x = at_x(level)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 24}" text-anchor="middle">{100 * level:g} %</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">noise ‖e‖ / ‖y‖</text>')
    turned = f'transform="translate(13 {HEIGHT / 2 - 10}) rotate(-90)"'
    parts.append(f'<text class="axis" {turned} text-anchor="middle">{label}</text>')
    ends = []
    for k, (name, noise, mean, spread, reference) in enumerate(series):
        colour = COLOURS[k % len(COLOURS)]
        there = [i for i in range(len(noise)) if np.isfinite(mean[i])]
        if reference is not None:
            y = at_y(reference)
            parts.append(
                f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" '
                f'stroke-dasharray="2 5" stroke-width="1.5" opacity="0.8"><title>n²/m = {reference:.2f}</title></line>'
            )
        if not there:
            continue
        upper = [f"{at_x(noise[i]):.1f},{at_y(mean[i] + spread[i]):.1f}" for i in there]
        lower = [f"{at_x(noise[i]):.1f},{at_y(max(low, mean[i] - spread[i])):.1f}" for i in reversed(there)]
        line = " ".join(f"{at_x(noise[i]):.1f},{at_y(mean[i]):.1f}" for i in there)
        parts.append(f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" opacity="0.15"/>')
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.2"/>')
        for i in there:
            said = f"{name}, {100 * noise[i]:g} %: {mean[i]:.3g} ± {spread[i]:.2g}"
            parts.append(
                f'<circle cx="{at_x(noise[i]):.1f}" cy="{at_y(mean[i]):.1f}" r="4" fill="{colour}" '
                f'class="dot"><title>{html.escape(said)}</title></circle>'
            )
        ends.append([at_y(mean[there[-1]]), colour, name])
    for y, colour, name in _apart(ends):
        parts.append(
            f'<text class="end" x="{WIDTH - RIGHT + 6}" y="{y + 4:.1f}" fill="{colour}">{html.escape(name)}</text>'
        )
    parts.append("</svg>")
    return "".join(parts)


def map_chart(values, name):
    """A value at each place of the grid, (rows, cols), as coloured squares: an SVG."""
    rows, cols = values.shape
    low, high = np.nanmin(values), np.nanmax(values)
    cell = 26
    parts = [f'<svg class="map" viewBox="0 0 {cols * cell} {rows * cell}" role="img">']
    for (i, j), value in np.ndenumerate(values):
        if not np.isfinite(value):
            continue
        share = (value - low) / (high - low) if high > low else 0.5
        colour = "#{:02x}{:02x}{:02x}".format(*_mixed(HEAT, np.array(share)).astype(int))
        parts.append(
            f'<rect x="{j * cell}" y="{i * cell}" width="{cell - 1}" height="{cell - 1}" rx="3" fill="{colour}">'
            f"<title>{html.escape(name)}, row {i}, column {j}: {value:.3g}</title></rect>"
        )
        ink = "#fff" if share < 0.55 else "#221133"
        x, y = j * cell + cell / 2 - 0.5, i * cell + cell / 2 + 3
        parts.append(f'<text x="{x}" y="{y}" fill="{ink}" class="value">{value:.2f}</text>')
    parts.append("</svg>")
    return "".join(parts)


def coloured(modulus, top):
    """Bytes (rows, cols, 3): grey from 0 to 1, and from there red to `top`, on a scale of square roots."""
    grey = np.rint(255 * np.clip(modulus, 0, 1))[..., None].repeat(3, -1)
    share = np.sqrt(np.clip((modulus - 1) / max(top - 1, 1e-9), 0, 1))
    return np.where((modulus > 1.001)[..., None], _mixed(REDS, share), grey).astype(np.uint8)


def picture(pixels):
    """A data URI of bytes (rows, cols, 3), as PNG."""
    rows, cols, _ = pixels.shape
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), pixels.reshape(rows, -1)], axis=1).tobytes()
    header = struct.pack(">IIBBBBB", cols, rows, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    )
    return "data:image/png;base64," + base64.b64encode(data).decode()


def _mixed(table, share):
    """Colours between the rows of a table, share from 0 to 1: (..., 3)."""
    place = np.asarray(share) * (len(table) - 1)
    below = np.minimum(place.astype(int), len(table) - 2)
    return table[below] + (place - below)[..., None] * (table[below + 1] - table[below])


def _round_ticks(low, high):
    """Round numbers from low to beyond high, four to eight of them."""
    step = next(s * 10.0**p for p in range(-12, 12) for s in (1, 2, 5) if (high - low) / (s * 10.0**p) <= 6)
    return [low + k * step for k in range(math.ceil((high - low) / step) + 1)]


def _apart(ends, room=16):
    """The labels [y, ...] from the top, moved down until none touches another."""
    ends = sorted(ends)
    for above, below in itertools.pairwise(ends):
        below[0] = max(below[0], above[0] + room)
    return ends
