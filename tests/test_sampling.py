# SPDX-License-Identifier: MIT
import hashlib
import pathlib
import time

import numpy as np
import pytest

from kspike.sampling import cartesian_mask, radial_mask, subsampling_factor

DATA = pathlib.Path(__file__).parents[1] / ".." / "shared" / "data" / "masks.npz"

# (shape, lines, offset, samples, SHA-256 of packbits): the first three are the paper's files; all were drawn by its
# recipe, rotating the image of a line with scikit-image 0.26.
DRAWN = [
    ((256, 256), 25, 0, 6990, "24199436a19f51c510626be534d90cf4977fe7845674bb00ad532214a8c33f62"),
    ((256, 256), 40, 0, 10941, "cbf85a436f9f07e4b42d5e4b1bed24d805cfc01e5214488ab16bb1a472d409c6"),
    ((256, 256), 80, 0, 20908, "9fa777fdd0fdd0decc1d101854bbe08704aec33a1909ac7df4b4e5066ad25b5c"),
    ((256, 256), 40, 2, 10888, "00d3028d5e538ec927462ee263ea196a80156625ec4400af20456bf56cffd246"),
    ((17, 31), 10, 0, 193, "231f3b70ae230e49ed06472aa16aee61a13136556625405f52c29e83a84a3ba8"),
    ((64, 64), 40, 0, 2276, "497c0f5ec830a562d717d6e9fbf1b46e56979e7998f5f5bf85e8d0059cc09d9f"),
    ((100, 60), 33, 0, 2256, "ff548b033883925d50da6a820cf52c911e507e915e4882caf0a9b5f1bb75d887"),
    ((511, 511), 40, 0, 22335, "6dcd1eca88f695a586eca9ffea5dc7fa2b47b22e52452bc04ee6a7cf15358436"),
    ((1, 9), 3, 0, 9, "85c61621ebd04403f66d96fe300cf10b3844de7358184f1276cb08790fd135f1"),
    ((320, 320), 25, 1, 8802, "6ceb1f589f18253a34c234523471d117d1f8f72b3dc8770819c8ced6cdd57450"),
]


@pytest.mark.parametrize(("shape", "lines", "offset", "samples", "digest"), DRAWN)
def test_radial_equals_the_rotated_line_image_bit_for_bit(shape, lines, offset, samples, digest):
    mask = radial_mask(shape, lines, offset=offset)
    assert mask.dtype == bool and mask.shape == shape and mask.flags.c_contiguous
    assert mask.sum() == samples
    assert hashlib.sha256(np.packbits(mask).tobytes()).hexdigest() == digest


@pytest.mark.parametrize("lines", [25, 40, 80])
def test_radial_equals_the_papers_file(lines):
    if not DATA.exists():
        pytest.skip(f"the paper's masks are not at {DATA}")
    with np.load(DATA) as masks:
        assert np.array_equal(radial_mask((256, 256), lines), masks[f"radial{lines}"])


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (1, 17), (17, 1), (2, 2), (2, 3), (5, 4), (31, 7), (64, 63)])
@pytest.mark.parametrize("offset", [0, 1, 2, 3, 7])
def test_radial_samples_the_zero_frequency_and_more_lines_sample_more(shape, offset):
    previous = np.zeros(shape, bool)
    for lines in (1, 2, 5, 40):
        mask = radial_mask(shape, lines, offset=offset)
        assert mask.shape == shape and mask[shape[0] // 2, shape[1] // 2]
        if offset == 0:
            assert not (previous & ~mask).any()
        previous = mask


def test_radial_offsets_cut_the_sequence_of_lines():
    parts = [radial_mask((65, 50), 7, offset=k) for k in range(4)]
    assert np.array_equal(np.logical_or.reduce(parts), radial_mask((65, 50), 28))


def test_radial_first_line_is_the_row_of_the_zero_frequency():
    for shape in [(8, 8), (9, 9), (7, 12)]:
        expected = np.zeros(shape, bool)
        expected[shape[0] // 2] = True
        assert np.array_equal(radial_mask(shape, 1), expected)


def test_radial_at_2048_takes_well_under_a_second():
    start = time.perf_counter()
    radial_mask((2048, 2048), 40)
    assert time.perf_counter() - start < 0.5  # measured: 5 ms


@pytest.mark.parametrize(
    ("shape", "keywords", "message"),
    [
        ((0, 4), {}, "got .0, 4"),
        ((4, -1), {}, "positive integers"),
        ((4,), {}, "positive integers"),
        ((4, 4, 4), {}, "positive integers"),
        ((4.5, 4), {}, "positive integers"),
        (256, {}, "positive integers"),
        ("ab", {}, "positive integers"),
        ((4, 4), {"lines": 0}, "lines: expected an integer of at least 1"),
        ((4, 4), {"lines": -3}, "lines: expected an integer of at least 1"),
        ((4, 4), {"lines": 2.5}, "lines: expected an integer"),
        ((4, 4), {"offset": -1}, "offset: expected"),
    ],
)
def test_radial_refuses_nonsense(shape, keywords, message):
    with pytest.raises(ValueError, match=message):
        radial_mask(shape, **keywords)


@pytest.mark.parametrize("cols", [1, 2, 11, 320, 368])
def test_cartesian_samples_whole_columns_and_the_centre(cols):
    mask = cartesian_mask((6, cols), acceleration=4, center_fraction=0.08, seed=3)
    assert mask.dtype == bool and mask.shape == (6, cols)
    assert (mask == mask[0]).all()
    assert mask[:, cols // 2].all()
    width = max(1, round(cols * 0.08))
    run = mask[0, cols // 2 - width // 2 :][:width]
    assert run.all() and run.size == width


def test_cartesian_has_the_acceleration_on_average_and_follows_its_seed():
    masks = [cartesian_mask((2, 320), 4, 0.08, seed=s) for s in range(400)]
    # Sampled columns: 26 + binomial(294, p), standard deviation 6.7; the mean of 400 is within 5 of its own, 1.7.
    assert abs(np.mean([m[0].sum() for m in masks]) - 80) < 1.7
    assert np.array_equal(masks[7], cartesian_mask((2, 320), 4, 0.08, seed=7))
    assert not np.array_equal(masks[7], masks[8])


def test_cartesian_at_acceleration_one_samples_everything():
    assert cartesian_mask((3, 50), acceleration=1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.5, 0.08), "acceleration: expected a number"),
        ((float("nan"), 0.08), "acceleration: expected a number"),
        ((float("inf"), 0.08), "acceleration: expected a number"),
        ((4, -0.1), "center_fraction: expected a number"),
        ((4, float("nan")), "center_fraction: expected a number"),
        ((4, 0.5), "at most 1 / acceleration"),
    ],
)
def test_cartesian_refuses_nonsense(arguments, message):
    with pytest.raises(ValueError, match=message):
        cartesian_mask((8, 8), *arguments)


def test_subsampling_factor():
    assert subsampling_factor(np.ones((3, 5), bool)) == 1
    assert subsampling_factor(radial_mask((256, 256), 40)) == 65536 / 10941
    with pytest.raises(ValueError, match="at least one sample"):
        subsampling_factor(np.zeros((3, 5), bool))
    with pytest.raises(TypeError, match="bool"):
        subsampling_factor(np.ones((3, 5)))
