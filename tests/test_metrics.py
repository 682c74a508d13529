# SPDX-License-Identifier: MIT
import math

import numpy as np
import pytest

import kspike
from kspike import metrics

RNG = np.random.default_rng(0)


def image(*shape):
    return RNG.standard_normal(shape) + 1j * RNG.standard_normal(shape)


def test_max_modulus_and_its_location():
    x = image(5, 7)
    row, col = metrics.argmax_location(x)
    assert isinstance(row, int) and isinstance(col, int)
    assert metrics.max_modulus(x) == abs(x[row, col]) == np.abs(x).max()
    assert metrics.argmax_location(np.ones((3, 4))) == (0, 0)


def test_a_batch_gives_what_each_of_its_images_gives():
    a, b = image(2, 3, 5, 7), image(2, 3, 5, 7)
    for measure in (
        metrics.amplification,
        metrics.relative_l2,
        metrics.psnr,
        lambda a, b: metrics.max_modulus(a),
        lambda a, b: metrics.argmax_location(a),
        lambda a, b: metrics.local_l2(a, (2, 3), 1.5),
    ):
        together = measure(a, b)
        for i in np.ndindex(2, 3):
            # Sums of 35 squares in another order: a few eps.
            np.testing.assert_allclose(together[i], measure(a[i], b[i]), rtol=1e-14)
            assert measure(a[:0], b[:0]).shape[:2] == (0, 3)


def test_amplification_is_homogeneous_and_ignores_phases():
    a, r = image(5, 7), image(5, 7)
    alpha = metrics.amplification(a, r)
    assert alpha == np.abs(a).max() / np.abs(r).max()
    assert metrics.amplification(3 * a, 2j * r) == pytest.approx(1.5 * alpha, rel=1e-15)
    assert metrics.amplification(a, 0 * r) == math.inf
    assert math.isnan(metrics.amplification(0 * a, 0 * r))


def test_local_l2_of_disks():
    x = image(9, 11)
    assert metrics.local_l2(x, (4, 5), 0) == abs(x[4, 5])
    assert metrics.local_l2(x, (4, 5), 100) == pytest.approx(np.linalg.norm(x), rel=1e-15)
    assert metrics.local_l2(np.ones((9, 11)), (4, 5), 1) == pytest.approx(math.sqrt(5))
    assert metrics.local_l2(np.ones((9, 11)), (0, 0), 1) == pytest.approx(math.sqrt(3))
    assert metrics.local_l2(np.ones((99, 99)), (49, 49), 5) == pytest.approx(
        math.sqrt(81)
    )  # lattice points in radius 5


def test_relative_l2_and_psnr():
    x = image(5, 7)
    assert metrics.relative_l2(x, x) == 0
    assert metrics.relative_l2(1.25 * x, x) == pytest.approx(0.25)
    assert metrics.psnr(x, x) == math.inf
    one = np.ones((4, 8))
    assert metrics.psnr(one + 0.1, one) == pytest.approx(20)
    assert metrics.psnr(one + 0.1, one, peak=10) == pytest.approx(40)
    assert metrics.psnr(one - 0.1, 0 * one, peak=1) == pytest.approx(-20 * math.log10(0.9))
    assert metrics.relative_l2(one, 0 * one) == math.inf


def test_integers_are_measured_as_numbers():
    big = np.array([[200, 0]], np.uint8)
    assert metrics.relative_l2(big, big[:, ::-1]) == pytest.approx(math.sqrt(2))
    assert metrics.max_modulus(np.array([[-128, 3]], np.int8)) == 128


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.max_modulus(np.ones(3)), r"\(..., rows, cols\), got float64 of shape \(3,\)"),
        (lambda: metrics.max_modulus(np.ones((0, 3))), "rows, cols"),
        (lambda: metrics.max_modulus(np.array([["a"]])), "expected numbers"),
        (lambda: metrics.amplification(np.ones((3, 4)), np.ones((4, 3))), "same image shape"),
        (lambda: metrics.local_l2(np.ones((3, 4)), (3, 0), 1), "inside 3 x 4"),
        (lambda: metrics.local_l2(np.ones((3, 4)), (0, 0), -1), "radius >= 0"),
        (lambda: metrics.psnr(np.ones((3, 4)), np.ones((3, 4)), peak=0), "peak > 0"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_kernel_share_is_that_of_the_projection():
    A = kspike.MaskedFourier(RNG.random((5, 7)) < 0.5, dtype="complex128")
    seen, unseen = A.adjoint(A(image(5, 7))), image(5, 7)
    unseen -= A.adjoint(A(unseen))
    assert metrics.kernel_share(seen, A) == pytest.approx(0, abs=1e-14)
    assert metrics.kernel_share(unseen, A) == pytest.approx(1, rel=1e-14)
    both = np.stack([seen / np.linalg.norm(seen) + unseen / np.linalg.norm(unseen), seen])
    np.testing.assert_allclose(metrics.kernel_share(both, A), [0.5, 0], atol=1e-13)


def test_lipschitz_is_a_ratio_of_norms():
    a, e = image(3, 5, 7), image(3, 11)
    expected = [np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, e, strict=True)]
    np.testing.assert_allclose(metrics.lipschitz(a, e), expected, rtol=1e-14)
    assert metrics.lipschitz(2 * a[0], e[0]) == pytest.approx(2 * expected[0], rel=1e-14)


SCIKIT_IMAGE = 0.012884813914065242


def test_ssim_is_one_for_equal_moduli():
    x = image(2, 16, 20)
    np.testing.assert_allclose(metrics.ssim(1j * x, x), 1, rtol=1e-12)
    assert metrics.ssim(x[0] + image(16, 20), x[0]) < 0.9


def test_ssim_by_its_formula_on_one_window():
    a, b = np.abs(image(7, 7)), np.abs(image(7, 7))
    cov = np.cov(a.ravel(), b.ravel())
    c1, c2 = (0.01 * np.ptp(b)) ** 2, (0.03 * np.ptp(b)) ** 2
    light = (2 * a.mean() * b.mean() + c1) / (a.mean() ** 2 + b.mean() ** 2 + c1)
    expected = light * (2 * cov[0, 1] + c2) / (cov[0, 0] + cov[1, 1] + c2)
    assert metrics.ssim(a, b) == pytest.approx(expected, rel=1e-12)
    larger = np.abs(image(8, 9)), np.abs(image(8, 9))
    # The range of the reference is that of the whole image: windows of it are compared with the same constants.
    assert -1 < metrics.ssim(*larger) < 1
    with pytest.raises(ValueError, match="at least 7 x 7"):
        metrics.ssim(a[:6], b[:6])


def test_ssim_is_that_of_scikit_image():
    """What scikit-image 0.26 gave for structural_similarity(a, b, data_range=1)."""
    i, j = np.indices((24, 31))
    a, b = (np.sin(0.7 * i) * np.cos(0.4 * j) + 1) / 2, (i + j) / 53.0
    assert metrics.ssim(a, b) == pytest.approx(SCIKIT_IMAGE, rel=1e-12)


def test_the_local_damage_of_noise_is_its_standard_deviation():
    for shape in ((64, 64), (40, 100)):
        noise = 0.3 * RNG.standard_normal((20, *shape))
        damage = metrics.local_damage(noise)
        # At most sigma with probability 1/2 and more; the whole image alone gives sigma up to a few percent.
        assert np.mean(damage <= 0.3) >= 0.4
        assert 0.28 < np.median(damage) < 0.31 and damage.max() < 0.4


def test_local_damage_is_a_norm_that_ignores_phases_and_places():
    for shape in ((1, 1), (1, 9), (16, 16), (33, 20)):
        a, b = image(*shape), image(*shape)
        whole = metrics.local_damage(a)
        # The sums over disks go through transforms: 1e-12 is a wide margin.
        assert metrics.local_damage(-2j * a) == pytest.approx(2 * whole, rel=1e-12)
        assert metrics.local_damage(a + b) <= (whole + metrics.local_damage(b)) * (1 + 1e-12)
        assert metrics.local_damage(np.roll(a, (3, 5), (0, 1))) == pytest.approx(whole, rel=1e-12)
        assert 0 < whole <= np.abs(a).max()
        assert metrics.local_damage(0 * a) == 0


def test_local_damage_orders_equal_energies_by_how_concentrated_they_are():
    n = 128
    away = np.hypot(*(np.indices((n, n)) - n // 2))
    shapes = [away <= radius for radius in (0, 2, 8, 24)]
    noise = RNG.standard_normal((n, n))
    damages = [metrics.local_damage(x / np.linalg.norm(x)) for x in (*shapes, noise)]
    assert damages == sorted(damages, reverse=True)
    assert metrics.local_damage(np.eye(1, n * n, 77).reshape(n, n)) == pytest.approx(1 / 4.7, rel=0.03)


def test_the_tail_of_chi_squared_is_that_of_a_simulation():
    for count in (1, 2, 5, 12, 101):
        draws = RNG.chisquare(count, 200_000) / count
        for share in (0.5, 0.1, 0.01):
            t = np.quantile(draws, 1 - share)
            # 2000 of 200,000 draws lie beyond the rarest: a standard deviation of 2.2 %, and four of them.
            assert metrics._tail(count, t) == pytest.approx(share, rel=0.09)
    big = metrics._tail(10_001, 1.02)
    assert big == pytest.approx(metrics._tail(9_999, 1.02), rel=0.02)  # the two formulas meet
