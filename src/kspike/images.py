# SPDX-License-Identifier: MIT
"""Read images and masks from files. What cannot be read is refused in one line: what was expected, what came."""

from __future__ import annotations

import importlib
import math
import operator
import os

import numpy as np

from kspike.files import BYTES, DEFLATE, LARGEST, Refused, broken, check_members, check_size, one_line

__all__ = ["read_image", "read_mask"]

ARRAYS = (".npy", ".npz")
NUMBERS = "biufc"
PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
VOLUMES = (".h5", ".hdf5")
TILE = 322, 323  # the tags of TIFF for its sides
FORMATS = ("PNG", "TIFF", "JPEG")  # of the contents, whatever the suffix: for others Pillow may start a program
H5_KEYS = ("kspace", "reconstruction_esc", "reconstruction_rss", "image")


def read_image(path, *, slice=None, size=None, key=None):
    """One image (rows, cols) of modulus at most 1: float32, or complex64 where the file holds complex numbers.

    .png .tif .jpg   Grey as stored, colour by its luma 0.299 R + 0.587 G + 0.114 B, transparent parts on black; the
                     full scale of the type (8 or 16 bits) is 1. A file of several pictures is a stack.
    .npy .npz        (rows, cols), or a stack (slices, rows, cols) if `slice` is given. bool, uint8 and uint16 have the
                     full scale 1; floating-point numbers are kept, or divided by their largest modulus if above 1.
    .h5              As in fastMRI, a stack (slices, rows, cols) of one coil: complex `kspace`, whose image is the
                     centred orthonormal inverse DFT, else `reconstruction_esc`, `reconstruction_rss` or `image`;
                     divided by its largest modulus, for the unit of a scanner is arbitrary.

    Parameters
    ----------
    path : path-like
    slice : int, optional
        Which image of a stack, from the end if negative. Default: the middle one, n // 2, of pictures and .h5.
    size : int or (int, int), optional
        Cut (rows, cols) out about the centre, which stays at n // 2.
    key : str, optional
        Which array of an .npz (default: the only one, or `image`) or an .h5 file.

    The array is C-contiguous. Raises FileNotFoundError, ValueError for contents that are not an image, and ImportError
    with the line to type where pillow or h5py is missing.
    """
    path, kind = _kind(path, ARRAYS + PICTURES + VOLUMES, key)
    if kind in PICTURES:
        image, full_scale = _read_picture(path, slice)
    elif kind in VOLUMES:
        image, full_scale = _read_volume(path, key, slice), None
    else:
        array = _read_array(path, key, "image")
        image, full_scale = _pick(path, array, slice, default=None), _full_scale(path, array)
    _check(path, image)
    if size is not None:
        image = _cut(path, image, size)
    try:
        if full_scale is None:
            largest = max(float(np.abs(line).max()) for line in image)
            full_scale = largest if largest > 1 or kind in VOLUMES else 1
        out = np.empty(image.shape, np.complex64 if image.dtype.kind == "c" else np.float32)
        wide = np.promote_types(image.dtype, np.float64)
        return np.divide(image, full_scale or 1, out=out, dtype=wide, casting="same_kind")  # rounded once
    except MemoryError:
        raise ValueError(f"{path}: expected an image that fits in memory, got {image.shape}") from None


def read_mask(path, *, key=None):
    """A sampling mask: bool (rows, cols), C-contiguous, the zero frequency at index n // 2; nonzero means sampled.

    The file (.npy, .npz with one array or one named `mask`, .png, .tif) holds booleans, or zeros and one other value.
    Raises as `read_image`, and for a mask that samples nothing or has its zero frequency in the corner.
    """
    path, kind = _kind(path, ARRAYS + PICTURES, key)
    mask = _read_picture(path, None)[0] if kind in PICTURES else _read_array(path, key, "mask")
    _check(path, mask)
    values = np.unique(mask[mask != 0])
    if values.size != 1:
        came = "only zeros" if values.size == 0 else f"{values.size} different nonzero values"
        raise ValueError(f"{path}: expected a mask of zeros and one other value, got {came}")
    mask = np.ascontiguousarray(mask != 0)
    if mask[0, 0] and not mask[mask.shape[0] // 2, mask.shape[1] // 2]:
        raise ValueError(
            f"{path}: expected the zero frequency at index n // 2, got a mask that samples [0, 0] and not its centre: "
            "apply numpy.fft.fftshift to it"
        )
    return mask


def _kind(path, kinds, key):
    """The path as str and its lower-case suffix: of a file that exists, of one of `kinds`, fit for the key."""
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    if not os.path.isfile(path):
        raise ValueError(f"{path}: expected a file, got a folder or a device")
    kind = os.path.splitext(path)[1].lower()
    if kind not in kinds:
        raise ValueError(f"{path}: expected a file named {' '.join(kinds)}, got {kind or 'no suffix'}")
    if key is not None and kind not in (".npz", *VOLUMES):
        raise ValueError(f"{path}: expected an .npz or .h5 file to go with key={key!r}")
    return path, kind


def _need(module, package, path):
    """Import an optional package, or say what to type."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ImportError(f"{path}: reading it needs {package}: pip install 'kspike[io]'") from None


def _refusal(path, expected, error):
    """The one line for a file that a library could not read."""
    return ValueError(f"{path}: expected {expected}, got a file that cannot be read as one ({one_line(error)})")


def _read_array(path, key, favourite):
    """The array of an .npy or .npz file."""
    try:
        with open(path, "rb") as file:
            held = np.load(file, allow_pickle=False)
            if isinstance(held, np.ndarray):
                names, found = [], held
            else:
                names = held.files
                key = key or (names[0] if len(names) == 1 else favourite)
                if key in names:
                    check_members(path, os.path.getsize(path), held.zip.infolist())
                found = held[key] if key in names else None
    except Refused:
        raise
    except broken() as error:
        raise _refusal(path, "an array of numbers", error) from None
    if found is None:
        raise ValueError(f"{path}: expected an array named {key!r}, got {', '.join(names) or 'an empty archive'}")
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{path}: expected an array of numbers, got {type(found).__name__}")
    return found


def _read_picture(path, index):
    """The grey values of a picture and its full scale."""
    pillow = _need("PIL.Image", "pillow", path)
    try:
        with open(path, "rb") as file, pillow.open(file, formats=FORMATS) as picture:
            frames = getattr(picture, "n_frames", 1)
            picture.seek(_index(path, index, frames, default=frames // 2))
            length, tags = os.path.getsize(path), getattr(picture, "tag_v2", {})
            tile = [tags.get(tag, 1) for tag in TILE]  # of a TIFF, which may be larger than its picture
            for sides in (picture.size, tile):
                check_size(path, length, math.prod(sides), LARGEST, "pixels", 8 * DEFLATE)  # of one bit or more
            mode = picture.mode
            if mode in ("1", "L", "F") or mode.startswith("I"):
                grey = np.asarray(picture)
            else:
                transparent = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
                colour = np.asarray(picture.convert("RGBA" if transparent else "RGB"))
                grey = np.empty(colour.shape[:2])
                for line, into in zip(colour, grey, strict=True):
                    into[:] = line[:, :3] @ (0.299, 0.587, 0.114) * (line[:, 3] / 255 if transparent else 1)
    except Refused:
        raise
    except (*broken(), pillow.DecompressionBombError) as error:
        raise _refusal(path, "a picture", error) from None
    if mode == "I" and not (grey.min() >= 0 and grey.max() <= 65535):
        raise ValueError(f"{path}: expected 8 or 16 bits, got integers from {grey.min()} to {grey.max()}")
    return grey, {"1": 1, "F": None}.get(mode, 65535 if mode.startswith("I") else 255)


def _read_volume(path, key, index):
    """One slice of an .h5 file, as an image."""
    h5py = _need("h5py", "h5py", path)
    try:
        with h5py.File(path, "r") as file:
            own = [file[name] for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
            shapes = {x.name[1:]: x.shape for x in own if isinstance(x, h5py.Dataset) and x.shape}
            fitting = [name for name in H5_KEYS if len(shapes.get(name, ())) in (2, 3)]
            name = key or (fitting[0] if fitting else None)
            if name not in shapes or len(shapes[name]) not in (2, 3):
                raise Refused(
                    f"{path}: expected {key or ' or '.join(H5_KEYS)} of shape (slices, rows, cols), got "
                    + (", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "no array")
                )
            data = file[name]
            if data.external or data.is_virtual:
                raise Refused(f"{path}: expected numbers in the file itself, got {name} that lies in other files")
            if data.dtype.kind not in NUMBERS:
                raise Refused(f"{path}: expected numbers, got {data.dtype}")
            length = os.path.getsize(path)
            check_size(path, length, math.prod(data.shape[-2:]), LARGEST, "pixels")
            for shape in (data.shape[-2:], data.chunks or ()):
                check_size(path, length, math.prod(shape) * data.dtype.itemsize, BYTES, "bytes")
            if len(data.shape) == 3:
                data = data[_index(path, index, data.shape[0], default=data.shape[0] // 2)]
            else:
                _index(path, index, 1, default=0)
                data = data[()]
    except Refused:
        raise
    except broken() as error:
        raise _refusal(path, "an HDF5 file", error) from None
    if name != "kspace":
        return data
    if data.dtype.kind != "c":
        raise ValueError(f"{path}: expected complex kspace, got {data.dtype}")
    _check(path, data)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(data), norm="ortho"))


def _index(path, index, count, default):
    """Which of `count` images, checked."""
    if count == 0:
        raise Refused(f"{path}: expected an image, got a stack of none")
    if index is None:
        return default
    index = operator.index(index)
    if not -count <= index < count:
        raise Refused(f"{path}: expected a slice from 0 to {count - 1}, got {index}")
    return index % count


def _pick(path, array, index, default):
    """The image itself or, if an index is given, that one of a stack."""
    if index is None or array.ndim != 3:
        _index(path, index, 1, default)
        return array
    return array[_index(path, index, array.shape[0], default)]


def _full_scale(path, array):
    """1 for bool, 255 for uint8, 65535 for uint16, None for floating-point numbers; others are refused."""
    if array.dtype.kind in "fc":
        return None
    if array.dtype.kind == "b" or array.dtype in (np.uint8, np.uint16):
        return 1 if array.dtype.kind == "b" else int(np.iinfo(array.dtype).max)
    raise ValueError(f"{path}: expected floating-point numbers, uint8, uint16 or bool, got {array.dtype}")


def _check(path, image):
    """Two axes, at least one pixel, numbers, all finite."""
    if image.dtype.kind not in NUMBERS:
        raise ValueError(f"{path}: expected numbers, got {image.dtype}")
    if image.ndim != 2:
        choose = ": choose a slice" if image.ndim == 3 else ""
        raise ValueError(f"{path}: expected an image (rows, cols), got shape {image.shape}{choose}")
    if image.size == 0:
        raise ValueError(f"{path}: expected at least one pixel, got shape {image.shape}")
    bad = image.size - np.count_nonzero(np.isfinite(image))
    if bad:
        raise ValueError(f"{path}: expected finite numbers, got {bad} NaN or infinite of {image.size}")


def _cut(path, image, size):
    """The middle (rows, cols): index n // 2 of each axis stays the centre."""
    try:
        rows, cols = (operator.index(n) for n in (size if np.ndim(size) else (size, size)))
    except (TypeError, ValueError):
        raise ValueError(f"expected size = n or (rows, cols), got {size!r}") from None
    if not (1 <= rows <= image.shape[0] and 1 <= cols <= image.shape[1]):
        raise ValueError(
            f"{path}: expected at least {rows} x {cols} pixels to cut out, got {image.shape[0]} x {image.shape[1]}"
        )
    first = (image.shape[0] // 2 - rows // 2, image.shape[1] // 2 - cols // 2)
    return image[first[0] : first[0] + rows, first[1] : first[1] + cols]
