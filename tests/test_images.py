# SPDX-License-Identifier: MIT
import io
import sys
import warnings
import zipfile

import numpy as np
import pytest

from kspike.images import read_image, read_mask

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)


def pillow():
    return pytest.importorskip("PIL.Image")


def h5(path, **arrays):
    with pytest.importorskip("h5py").File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def npy(path, array):
    np.save(path, array)
    return path


def refused(path, message, read=read_image, error=ValueError, **keywords):
    """The file is refused in one line that names it."""
    with pytest.raises(error, match=message) as caught:
        read(path, **keywords)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def same(image, expected):
    assert image.dtype == (np.complex64 if np.iscomplexobj(expected) else np.float32) and image.flags.c_contiguous
    # One rounding to float32, and one of the scale.
    np.testing.assert_allclose(image, expected, rtol=2 * np.finfo(np.float32).eps, atol=0)


# --- arrays


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "complex64", "complex128"])
def test_numbers_up_to_one_are_kept(tmp_path, dtype):
    x = (RNG.random((5, 7)) * (0.5 + 0.5j if dtype.startswith("c") else 1)).astype(dtype)
    same(read_image(npy(tmp_path / "x.npy", x)), x)
    same(read_image(npy(tmp_path / "x.npy", np.asfortranarray(x))), x)


def test_numbers_above_one_are_divided_by_their_largest_modulus(tmp_path):
    x = 300 * RNG.standard_normal((5, 7))
    same(read_image(npy(tmp_path / "x.npy", x)), x / np.abs(x).max())
    huge = np.array([[1e300, -2e300]])
    same(read_image(npy(tmp_path / "x.npy", huge)), np.array([[0.5, -1]]))


def test_small_integers_have_the_full_scale_of_their_type(tmp_path):
    same(read_image(npy(tmp_path / "x.npy", GREY)), GREY / 255)
    same(read_image(npy(tmp_path / "x.npy", GREY.astype(np.uint16) * 257)), GREY / 255)
    same(read_image(npy(tmp_path / "x.npy", GREY > 99)), (GREY > 99).astype(float))
    refused(npy(tmp_path / "x.npy", GREY.astype(np.int64)), "expected floating-point numbers, uint8, uint16 or bool")


def test_a_zero_image_stays_zero(tmp_path):
    same(read_image(npy(tmp_path / "x.npy", np.zeros((3, 3)))), np.zeros((3, 3)))
    same(read_image(h5(tmp_path / "x.h5", image=np.zeros((3, 3)))), np.zeros((3, 3)))


def test_npz_takes_the_only_array_or_image_or_the_key(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, whatever=GREY)
    same(read_image(path), GREY / 255)
    np.savez_compressed(path, image=GREY, other=GREY[::-1])
    same(read_image(path), GREY / 255)
    same(read_image(path, key="other"), GREY[::-1] / 255)
    refused(path, "expected an array named 'nothing', got image, other", key="nothing")
    np.savez(path, a=GREY, b=GREY)
    refused(path, "expected an array named 'image', got a, b")
    np.savez(path)
    refused(path, "empty archive")


def test_a_stack_of_arrays_needs_a_slice(tmp_path):
    stack = npy(tmp_path / "x.npy", np.stack([GREY, GREY[::-1]]))
    refused(stack, r"expected an image \(rows, cols\), got shape \(2, 5, 7\): choose a slice")
    same(read_image(stack, slice=1), GREY[::-1] / 255)
    same(read_image(stack, slice=-2), GREY / 255)
    refused(stack, "slice from 0 to 1, got 2", slice=2)
    refused(npy(tmp_path / "x.npy", GREY), "slice from 0 to 0, got 1", slice=1)
    same(read_image(tmp_path / "x.npy", slice=0), GREY / 255)


@pytest.mark.parametrize("shape", [(), (3,), (1, 3, 4, 5)])
def test_other_numbers_of_axes_are_refused(tmp_path, shape):
    refused(npy(tmp_path / "x.npy", np.ones(shape)), r"expected an image \(rows, cols\), got shape")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1j * np.nan])
def test_what_is_not_finite_is_refused(tmp_path, value):
    x = np.ones((4, 4), complex if isinstance(value, complex) else float)
    x[1, 2] = value
    refused(npy(tmp_path / "x.npy", x), "expected finite numbers, got 1 NaN or infinite of 16")
    refused(npy(tmp_path / "x.npy", x), "expected finite numbers", read=read_mask)


@pytest.mark.parametrize("shape", [(0, 0), (0, 4), (4, 0)])
def test_empty_images_are_refused(tmp_path, shape):
    refused(npy(tmp_path / "x.npy", np.ones(shape)), "at least one pixel")


def test_what_is_not_a_number_is_refused(tmp_path):
    refused(npy(tmp_path / "x.npy", np.full((2, 2), "a")), "expected floating-point numbers")
    refused(npy(tmp_path / "x.npy", np.zeros((2, 2), [("a", float)])), "expected floating-point numbers")
    path = tmp_path / "object.npy"
    np.save(path, np.array([[{}, None]]), allow_pickle=True)
    refused(path, "expected an array of numbers, got a file that cannot be read as one .*allow_pickle=False")


# --- pictures


@pytest.mark.parametrize("kind", ["png", "tif", "TIFF", "PNG"])
def test_grey_pictures_have_the_full_scale_of_their_bits(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    for array, scale in ((GREY, 255), (GREY.astype(np.uint16) * 200, 65535), (GREY > 99, 1)):
        pillow().fromarray(array).save(path)
        same(read_image(path), array / scale)


def test_floating_point_tiff_is_read_as_numbers(tmp_path):
    x = RNG.random((5, 7)).astype(np.float32)
    pillow().fromarray(x).save(tmp_path / "x.tif")
    same(read_image(tmp_path / "x.tif"), x)
    pillow().fromarray(10 * x).save(tmp_path / "x.tif")
    same(read_image(tmp_path / "x.tif"), x / x.max())


def test_colour_is_its_luma_and_transparency_is_black(tmp_path):
    colour = RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)
    luma = colour[..., :3] @ np.array([0.299, 0.587, 0.114]) / 255
    for channels, expected in ((3, luma), (4, luma * colour[..., 3] / 255)):
        pillow().fromarray(colour[..., :channels]).save(tmp_path / "x.png")
        same(read_image(tmp_path / "x.png"), expected)
    pillow().fromarray(colour[..., :3]).save(tmp_path / "x.jpg", quality=100, subsampling=0)
    assert np.abs(read_image(tmp_path / "x.jpg") - luma).max() < 3 / 255  # three roundings of 8-bit colours


def test_palette_and_grey_with_transparency(tmp_path):
    palette = pillow().fromarray(GREY).convert("P")
    palette.save(tmp_path / "x.png")
    same(read_image(tmp_path / "x.png"), GREY / 255)
    both = np.stack([GREY, GREY[::-1]], axis=-1)
    pillow().fromarray(both).save(tmp_path / "x.png")
    same(read_image(tmp_path / "x.png"), GREY / 255 * (GREY[::-1] / 255))


def test_a_file_of_pictures_gives_the_middle_one_or_the_slice(tmp_path):
    frames = [pillow().fromarray(np.full((3, 4), v, np.uint8)) for v in (10, 20, 30, 40)]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "x.tif")[0, 0] == np.float32(30 / 255)
    assert read_image(tmp_path / "x.tif", slice=0)[0, 0] == np.float32(10 / 255)
    refused(tmp_path / "x.tif", "slice from 0 to 3, got 4", slice=4)


# --- fastMRI


def test_kspace_gives_the_image_of_the_middle_slice(tmp_path):
    x = RNG.standard_normal((3, 6, 5)) + 1j * RNG.standard_normal((3, 6, 5))
    k = np.array([np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(a))) for a in x])
    path = h5(tmp_path / "x.h5", kspace=(1e-6 * k).astype(np.complex64), reconstruction_rss=np.ones((3, 2, 2)))
    for keywords, a in (({}, x[1]), ({"slice": 2}, x[2])):
        image = read_image(path, **keywords)
        assert image.dtype == np.complex64 and image.flags.c_contiguous
        # A DFT of 30 numbers in single precision: a few eps of the largest, which is 1.
        np.testing.assert_allclose(image, a / np.abs(a).max(), atol=1e-6)
    same(read_image(path, key="reconstruction_rss"), np.ones((2, 2)))


def test_h5_images_are_divided_by_their_largest_modulus(tmp_path):
    x = 1e-5 * RNG.random((4, 5, 6))
    for name in ("reconstruction_esc", "reconstruction_rss", "image"):
        same(read_image(h5(tmp_path / "x.h5", **{name: x})), x[2] / x[2].max())
    same(read_image(h5(tmp_path / "x.hdf5", image=x[0])), x[0] / x[0].max())


def test_several_coils_are_refused_unless_combined(tmp_path):
    k = np.ones((3, 2, 4, 4), np.complex64)
    refused(h5(tmp_path / "x.h5", kspace=k), r"of shape \(slices, rows, cols\), got kspace \(3, 2, 4, 4\)")
    same(read_image(h5(tmp_path / "x.h5", kspace=k, reconstruction_rss=np.ones((3, 4, 4)))), np.ones((4, 4)))


def test_other_h5_contents_are_refused(tmp_path):
    path = tmp_path / "x.h5"
    refused(h5(path), "got no array")
    refused(h5(path, volume=np.ones((2, 3, 4))), r"kspace or .* got volume \(2, 3, 4\)")
    refused(h5(path, image=np.ones((2, 3, 4))), "expected mask of shape", key="mask")
    refused(h5(path, kspace=np.ones((2, 3, 4))), "expected complex kspace, got float64")
    refused(h5(path, image=np.ones((0, 3, 4))), "stack of none")
    refused(h5(path, image=np.full((2, 3, 4), np.nan)), "finite")
    refused(h5(path, kspace=np.full((2, 3, 4), np.nan + 0j)), "finite")
    refused(h5(path, image=np.ones((2, 3, 4))), "slice from 0 to 1, got -3", slice=-3)
    refused(h5(path, image=np.ones((2, 3, 4)).astype("S1")), "expected numbers")


# --- size


@pytest.mark.parametrize("n", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("size", [1, 2, 3, 6, 7])
def test_the_cut_keeps_the_centre_at_half(tmp_path, n, size):
    path = npy(tmp_path / "x.npy", (np.arange(n)[:, None] == n // 2) * np.ones((n, 8)))
    if size > n:
        refused(path, f"at least {size} x 8 pixels to cut out, got {n} x 8", size=(size, 8))
    else:
        image = read_image(path, size=(size, 8))
        assert image.shape == (size, 8) and image[size // 2].all() and image.sum() == 8


def test_size_refuses_nonsense(tmp_path):
    path = npy(tmp_path / "x.npy", GREY)
    assert read_image(path, size=3).shape == (3, 3)
    for size in (0, -1, (2, 0)):
        refused(path, "pixels to cut out", size=size)
    for size in (1.5, (1, 2, 3), "ab"):
        with pytest.raises(ValueError, match="expected size = n or"):
            read_image(path, size=size)


# --- masks


def test_masks_of_every_kind(tmp_path):
    mask = RNG.random((6, 5)) < 0.5
    mask[3, 2] = True
    for dtype in (bool, np.uint8, np.int64, np.float32, np.complex64):
        assert np.array_equal(read_mask(npy(tmp_path / "m.npy", np.asfortranarray(mask.astype(dtype) * 1))), mask)
    np.savez(tmp_path / "m.npz", image=GREY, mask=mask)
    assert np.array_equal(read_mask(tmp_path / "m.npz"), mask)
    pillow().fromarray(mask * np.uint8(255)).save(tmp_path / "m.png")
    pillow().fromarray(mask).save(tmp_path / "m.tif")
    for path in ("m.png", "m.tif"):
        found = read_mask(tmp_path / path)
        assert np.array_equal(found, mask) and found.dtype == bool and found.flags.c_contiguous


def test_bad_masks_are_refused(tmp_path):
    path = tmp_path / "m.npy"
    refused(npy(path, np.zeros((3, 3))), "zeros and one other value, got only zeros", read=read_mask)
    refused(npy(path, GREY), "got .* different nonzero values", read=read_mask)
    refused(npy(path, np.ones(5, bool)), r"shape \(5,\)", read=read_mask)
    corner = np.zeros((4, 4), bool)
    corner[0, 0] = True
    refused(npy(path, corner), "fftshift", read=read_mask)
    refused(tmp_path / "none.npy", "no such file", read=read_mask, error=FileNotFoundError)


# --- files that are not what their name says


def test_missing_files_folders_and_other_kinds_are_refused(tmp_path):
    refused(tmp_path / "none.png", "no such file", error=FileNotFoundError)
    refused(tmp_path, "expected a file, got a folder")
    (tmp_path / "x.dcm").write_bytes(b"")
    refused(tmp_path / "x.dcm", "expected a file named .npy .npz .png .* got .dcm")
    (tmp_path / "x").write_bytes(b"")
    refused(tmp_path / "x", "got no suffix")
    refused(npy(tmp_path / "x.npy", GREY), "to go with key='a'", key="a")


def whole(kind):
    """The bytes of a good file."""
    buffer = io.BytesIO()
    if kind == "h5":
        with pytest.importorskip("h5py").File(buffer, "w") as file:
            file["image"] = np.stack([GREY] * 3)
    elif kind == "npy":
        np.save(buffer, GREY)
    elif kind == "npz":
        np.savez(buffer, image=GREY)
    else:
        pillow().fromarray(GREY).save(buffer, {"tif": "tiff", "jpg": "jpeg"}.get(kind, kind))
    return buffer.getvalue()


KINDS = ["npy", "npz", "png", "tif", "jpg", "h5"]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", KINDS)
def test_garbage_is_refused(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    good = whole(kind)
    for content in (b"", b"\0", b"not an image\n" * 50, RNG.bytes(3000), b"\x80\x04" + RNG.bytes(50), good[:20]):
        path.write_bytes(content)
        refused(path, "expected .*, got a file that cannot be read as one")


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_and_damaged_files_are_read_or_refused_in_one_line(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    good = whole(kind)
    rng = np.random.default_rng(1)
    contents = [good[: int(len(good) * share)] for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99)]
    for _ in range(150):
        damaged = bytearray(good)
        for position in rng.integers(0, len(good), 3):
            damaged[position] = rng.integers(0, 256)
        contents.append(bytes(damaged))
    refusals = 0
    for content in contents:
        path.write_bytes(content)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow warns of damaged tags that it can live with
                image = read_image(path)
        except ValueError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            refusals += 1
        else:
            assert image.ndim == 2 and image.dtype in (np.float32, np.complex64) and np.isfinite(image).all()
    assert refusals > 0


def test_an_npz_with_a_member_that_is_no_array_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("image.txt", "hello")
    refused(tmp_path / "x.npz", "expected")


@pytest.mark.parametrize(("module", "kind", "package"), [("PIL", "png", "pillow"), ("h5py", "h5", "h5py")])
def test_a_missing_package_is_named_with_what_to_type(tmp_path, monkeypatch, module, kind, package):
    path = tmp_path / f"x.{kind}"
    path.write_bytes(b"")
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if "editable" not in repr(f).lower()])
    refused(path, rf"reading it needs {package}: pip install 'kspike\[io\]'", error=ImportError)
