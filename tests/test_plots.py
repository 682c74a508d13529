# SPDX-License-Identifier: MIT
import builtins
import errno
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from kspike.phantoms import ellipses
from kspike.plots import curve, heatmap, need_matplotlib, triptych


def spiked(shape, location, height):
    x = ellipses(shape, seed=3)
    reconstruction = x.copy()
    reconstruction[location] = height
    return x, x + 0.01, reconstruction


def pixels(figure):
    """The figure as it is drawn, (rows, cols, 3) uint8."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3]


def red(rgb):
    r, g, b = (rgb[..., c].astype(int) for c in range(3))
    return (r - g > 60) & (r - b > 60)


@pytest.mark.parametrize("height", [3.0, 1e4, 1.01])
def test_the_spike_is_red_in_the_reconstruction_and_nowhere_without_one(height):
    x, perturbed, reconstruction = spiked((64, 64), (20, 40), height)
    figure = triptych(x, perturbed, reconstruction, (20, 40), zoom=0)
    without = triptych(x, perturbed * 0.9, x, (20, 40), zoom=0)
    # One pixel of 64 in a panel of 768 is a block of 12 x 12; the colour bar is as red, but beside the third panel.
    third = figure.axes[2].get_window_extent()
    panel = pixels(figure)[:, int(third.x0) : int(third.x1)]
    assert red(panel).sum() == 144
    assert not red(pixels(without)).any()
    assert [a.get_ylabel() for a in figure.axes[3:]] == ["modulus", "above 1"]
    assert [a.get_ylabel() for a in without.axes[3:]] == ["modulus"]


def test_the_inset_is_centred_on_the_location_and_lies_in_the_other_corner():
    for location in [(20, 40), (200, 40), (20, 200), (200, 200), (128, 128)]:
        figure = triptych(*spiked((256, 256), location, 3.0), location, zoom=8)
        assert [len(axes.child_axes) for axes in figure.axes[:3]] == [0, 1, 1]
        (inset,) = figure.axes[2].child_axes
        row, col = location
        assert inset.get_xlim() == (col - 8.5, col + 8.5) and inset.get_ylim() == (row + 8.5, row - 8.5)
        figure.canvas.draw()
        box = inset.get_window_extent().transformed(figure.axes[2].transData.inverted())
        assert not (box.xmin <= col <= box.xmax and min(box.ymin, box.ymax) <= row <= max(box.ymin, box.ymax))


def test_the_inset_stays_inside_the_image():
    for location in [(0, 0), (255, 255), (0, 255)]:
        (inset,) = triptych(*spiked((256, 256), location, 3.0), location, zoom=8).axes[2].child_axes
        assert sorted(inset.get_xlim())[0] >= -0.5 and sorted(inset.get_xlim())[1] <= 255.5


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 3), (17, 90), (300, 40)])
@pytest.mark.parametrize("height", [0.0, 1.0, np.nextafter(np.float32(1), np.float32(2)), 7.0])
def test_every_shape_is_drawn(shape, height):
    location = shape[0] // 2, shape[1] // 2
    figure = triptych(*spiked(shape, location, height), location, caption=r"$\alpha = 1$")
    assert pixels(figure).std() > 0


def test_complex_images_are_drawn_by_their_moduli():
    x, perturbed, reconstruction = spiked((32, 32), (9, 9), 3.0)
    drawn = pixels(triptych(x, perturbed, reconstruction, (9, 9)))
    assert np.array_equal(drawn, pixels(triptych(1j * x, -perturbed, reconstruction * 1j, (9, 9))))


def test_files_are_written_by_suffix(tmp_path):
    x = spiked((32, 32), (9, 9), 3.0)
    starts = {"png": b"\x89PNG", "pdf": b"%PDF"}
    for kind, start in starts.items():
        triptych(*x, (9, 9), tmp_path / f"t.{kind}")
        heatmap(np.eye(3), tmp_path / f"h.{kind}")
        for name in "th":
            assert (tmp_path / f"{name}.{kind}").read_bytes().startswith(start)


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (8, 8), (40, 3)])
def test_heatmap_frames_the_largest(shape):
    values = np.zeros(shape)
    values[-1, 0] = 5
    figure = heatmap(values)
    (frame,) = figure.axes[0].patches
    assert (frame.get_x(), frame.get_y()) == (-0.5, shape[0] - 1.5)
    assert pixels(figure).std() > 0


def test_threads_draw_at_once_and_pyplot_is_never_imported():
    x = spiked((32, 32), (9, 9), 3.0)
    expected, drawn = pixels(triptych(*x, (9, 9))), {}
    imported = "matplotlib.pyplot" in sys.modules
    threads = [threading.Thread(target=lambda i=i: drawn.update({i: pixels(triptych(*x, (9, 9)))})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 4 and all(np.array_equal(image, expected) for image in drawn.values())
    assert ("matplotlib.pyplot" in sys.modules) == imported


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: triptych(x, x, x[:3], (0, 0)), "one shape"),
        (lambda x: triptych(x, x, x, (8, 0)), "inside 8 x 8"),
        (lambda x: triptych(x, x, x * np.nan, (0, 0)), "reconstruction: expected finite"),
        (lambda x: triptych(x[0], x, x, (0, 0)), r"image: expected numbers of shape \(rows, cols\)"),
        (lambda x: triptych(x, x, x, (0, 0), zoom=-1), "zoom: expected"),
        (lambda x: heatmap(x[0]), "amplifications: expected"),
        (lambda x: heatmap(x * np.inf), "amplifications: expected"),
        (lambda x: heatmap(x[:0]), "amplifications: expected"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((8, 8)))


def test_a_missing_matplotlib_is_named_with_what_to_type(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'kspike\[plot\]'"):
        need_matplotlib()


@pytest.mark.parametrize("reason", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_picture_is_written_in_full_or_not_at_all(tmp_path, monkeypatch, reason):
    """What the disk has no room for leaves the picture that was there, and no piece of the new one."""
    path = tmp_path / "curve.png"
    curve([1, 2, 4], [3, 1, 2], path)
    before = path.read_bytes()

    def torn(figure, file, **options):
        file.write(b"\x89PNG")
        raise reason

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", torn)
    for name in ("curve.png", "other.pdf"):
        with pytest.raises(type(reason)):
            curve([1, 2, 4], [3, 2, 1], tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == ["curve.png"] and path.read_bytes() == before


def test_where_a_picture_is_written(tmp_path):
    """Under the name that was given, .png added where it has no suffix, and through a link."""
    (tmp_path / "link.png").symlink_to("target.png")
    for name in ("plain", tmp_path / "link.png", str(tmp_path / "page.pdf")):
        curve([1, 2, 4], [3, 1, 2], tmp_path / name)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.png", "page.pdf", "plain.png", "target.png"]
    assert (tmp_path / "link.png").is_symlink() and (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match="nonsense"):
        curve([1, 2, 4], [3, 1, 2], tmp_path / "a.nonsense")
    assert not (tmp_path / "a.nonsense").exists()
