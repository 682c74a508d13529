# SPDX-License-Identifier: MIT
import pathlib

import numpy as np
import pytest

from kspike.phantoms import ellipses, shepp_logan

DATA = pathlib.Path(__file__).parents[1] / ".." / "shared" / "data" / "ellipses.npz"


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 3), (17, 31), (64, 64), (100, 30)])
def test_ellipses_are_float32_between_zero_and_their_maximum_one(shape):
    x = ellipses(shape, seed=0)
    assert x.dtype == np.float32 and x.shape == shape and x.flags.c_contiguous
    assert x.min() >= 0 and x.max() == 1


def test_image_i_depends_on_seed_and_i_alone():
    many = ellipses((32, 40), seed=5, count=4)
    assert many.shape == (4, 32, 40)
    assert np.array_equal(many[:2], ellipses((32, 40), seed=5, count=2))
    assert np.array_equal(many[0], ellipses((32, 40), seed=5))
    assert len({image.tobytes() for image in (*many, *ellipses((32, 40), seed=6, count=4))}) == 8
    assert ellipses((32, 40), count=0).shape == (0, 32, 40)


@pytest.mark.parametrize("seed", range(5))
def test_one_seed_is_one_picture_at_every_resolution(seed):
    # The pixels of n = 65 are every second one of n = 129; the maximum, which divides, is taken over other pixels.
    fine, coarse = ellipses((129, 129), seed=seed)[::2, ::2], ellipses((65, 65), seed=seed)
    assert np.array_equal(fine > 0, coarse > 0)
    lit = coarse > 0
    ratio = fine[lit].astype(float) / coarse[lit]
    # A quotient of two numbers rounded to float32, of which the smallest is rounded twice: 4 eps.
    assert np.ptp(ratio) <= 4 * np.finfo(np.float32).eps * ratio.max()


def test_constant_pieces_of_one_ellipse_are_zero_or_one_with_the_area_of_an_ellipse():
    x = ellipses((401, 401), seed=2, number=(1, 1), semi_axes=(0.3, 0.3), margin=0.9, slope=0)
    assert set(np.unique(x)) == {0, 1}
    # pi 0.3^2 of the box's area 4, up to the pixels on the circle: its length 2 pi 0.3 times a pixel of 2/400.
    assert abs(x.mean() - np.pi * 0.3**2 / 4) < 2 * np.pi * 0.3 * (2 / 400) / 4


def test_steep_slopes_fall_back_to_constant_pieces_and_never_below_zero():
    x = ellipses((65, 65), seed=1, number=(1, 1), slope=1e6, bias=(1.0, 1.0))
    assert x.min() == 0 and x.max() == 1


def test_ellipses_leave_the_border_zero():
    for x in ellipses((64, 64), seed=9, count=20):
        assert not (x[0].any() or x[-1].any() or x[:, 0].any() or x[:, -1].any())


def test_statistics_are_the_papers():
    if not DATA.exists():
        pytest.skip(f"the paper's images are not at {DATA}")
    with np.load(DATA) as file:
        paper = file["images"]
    ours = ellipses(paper.shape[1:], seed=0, count=60)
    for measure in (
        lambda x: x.mean(),
        lambda x: (x > 0).mean(),
        lambda x: (np.abs(np.diff(x, axis=0)) > 0.03).mean(),
        lambda x: np.linalg.norm(x),
    ):
        a, b = ([float(measure(x)) for x in images] for images in (paper, ours))
        # The mean of five lies within four of its own standard deviations of the mean of the distribution.
        assert abs(np.mean(a) - np.mean(b)) < 4 * np.std(b) / np.sqrt(len(a))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"shape": (0, 3)}, "positive integers"),
        ({"shape": (2, 2)}, "expected one whose pixels can lie in an ellipse"),
        ({"seed": -1}, "seed: expected"),
        ({"seed": 1.5}, "seed: expected"),
        ({"count": -1}, "count: expected"),
        ({"number": (3, 2)}, "number: expected"),
        ({"number": (0, 2)}, "number: expected"),
        ({"semi_axes": (0, 0.4)}, "semi_axes: expected"),
        ({"semi_axes": (0.5, 0.4)}, "semi_axes: expected"),
        ({"margin": 0}, "margin: expected"),
        ({"slope": float("nan")}, "slope: expected"),
        ({"bias": (-0.1, 1)}, "bias: expected"),
        ({"bias": (0, 0)}, "bias: expected"),
    ],
)
def test_ellipses_refuse_nonsense(keywords, message):
    with pytest.raises(ValueError, match=message):
        ellipses(**{"shape": (16, 16), **keywords})


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (33, 20), (256, 256)])
def test_shepp_logan_is_float32_in_the_unit_interval(shape):
    x = shepp_logan(shape)
    assert x.dtype == np.float32 and x.shape == shape
    assert x.min() >= 0 and x.max() <= 1


def test_shepp_logan_holds_the_values_of_its_table():
    x = shepp_logan((201, 201))

    def at(across, up):
        return x[round(100 - 100 * up), round(100 + 100 * across)]

    for (across, up), value in {
        (0, 0): 0.2,  # the brain: 1 - 0.8
        (0.22, 0): 0.0,  # a ventricle
        (0, 0.35): 0.3,  # the large bright ellipse on top
        (0, 0.9): 1.0,  # the skull
        (0.95, 0): 0.0,  # outside
        (-0.08, -0.605): 0.3,  # the lowest small ellipses
    }.items():
        assert at(across, up) == pytest.approx(value, abs=1e-6)
    assert at(-0.08 + 0.03, -0.605) == pytest.approx(0.3) and at(-0.08, -0.605 + 0.03) == pytest.approx(0.2)
