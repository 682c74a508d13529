# SPDX-License-Identifier: MIT
"""What readers of files share, whether one can hold what it claims and which errors say that it is broken, and writers.

A header costs a few bytes, and what it claims is memory: so claims are held against the length of the file, before
anything is allocated. Deflate, the densest of the compressions that are read here, makes 1032 bytes of one.
"""

from __future__ import annotations

import os
import pathlib
import struct
import threading
import tokenize
import zlib

import numpy as np

__all__ = ["BYTES", "LARGEST", "Refused", "archive", "broken", "check_members", "check_size", "one_line", "whole"]

LARGEST = 2**26  # pixels of an image, 8192 x 8192: what claims more is a header that lies, or a bomb
BYTES = 16 * LARGEST  # of an array
SMALL, DEFLATE = 2**22, 1032  # what any file may claim, and how much more for each of its bytes
COMPRESSIONS = (0, 8)  # of an archive's members: none and deflate, the two that NumPy writes


class Refused(ValueError):
    """A refusal of ours inside a `try` that turns a library's errors into one."""


def broken():
    """What NumPy, Pillow, h5py and json raise for files that are not what their name says."""
    import zipfile  # takes a tenth of `import kspike` where nothing has loaded it

    return (
        *(OSError, EOFError, SyntaxError, tokenize.TokenError, struct.error, zlib.error, zipfile.BadZipFile),
        *(ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError, RuntimeError),
    )


def one_line(error):
    """What an error says, in one line that is not long."""
    return (" ".join(str(error).split()) or type(error).__name__)[:160]


def check_size(path, length, size, most, unit, density=DEFLATE):
    """Refuse what is too large, or larger than a file of this length in bytes can hold, before it is read."""
    if size > most:
        raise Refused(f"{path}: expected at most {most} {unit}, got {size}")
    if size > SMALL + density * length:
        raise Refused(f"{path}: expected at most {SMALL + density * length} {unit} of {length} bytes, got {size}")


def check_members(path, length, members):
    """Refuse an archive that claims more than its length can hold, or is compressed as NumPy compresses none."""
    for member in members:
        if member.compress_type not in COMPRESSIONS:
            raise Refused(f"{path}: expected members stored or deflated, got one of type {member.compress_type}")
        check_size(path, length, member.file_size, BYTES, "bytes")


def archive(path, length, file):
    """All arrays of an open .npz of this length by their names; raises one of `broken()`."""
    with np.load(file, allow_pickle=False) as held:
        check_members(path, length, held.zip.infolist())
        return {name: held[name] for name in held.files}


def whole(path, write, temporary=None):
    """Write a file in full or not at all: write(file), an open binary one beside it, which then gets its name.

    temporary : the name that it has until then, and that a kill leaves; else one of this thread's
    """
    path = pathlib.Path(os.path.realpath(path))
    temporary = path.with_name(temporary or f".kspike-{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
