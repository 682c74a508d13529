# SPDX-License-Identifier: MIT
"""Hostile files: truncated, bit-flipped, bombs, pickles, headers that lie. Refused by one line, or read as they are.

A case may take ten seconds and 600 MiB at most, and must execute nothing. The whole runs in a process of its own with a
limit on its memory, so that a crash of a library beneath is seen and survives nowhere else.
"""

from __future__ import annotations

import io
import os
import pathlib
import pickle
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib

import fuzzing
import numpy as np

from kspike import read_image, read_mask

TITLE = "Hostile files"
HERE = pathlib.Path(__file__).parent
REFUSALS = (ValueError, ImportError, FileNotFoundError)
SECONDS, BYTES = 10, 600 << 20
SEEDS: list[tuple[str, bytes]] = []


class Marker:
    """Unpickling this creates a file: the proof that something was executed."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def seeds():
    """Small valid files of every kind, (suffix, bytes)."""
    rng = np.random.default_rng(0)
    image = rng.random((9, 7)).astype(np.float32)
    found = []

    def saved(suffix, save):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / f"seed{suffix}"
            save(path)
            found.append((suffix, path.read_bytes()))

    saved(".npy", lambda p: np.save(p, image))
    saved(".npy", lambda p: np.save(p, (image > 0.5)))
    saved(".npz", lambda p: np.savez(p, image=image))
    saved(".npz", lambda p: np.savez_compressed(p, image=(image * 255).astype(np.uint8)))
    try:
        from PIL import Image

        grey = Image.fromarray((image * 255).astype(np.uint8))
        saved(".png", grey.save)
        saved(".png", Image.fromarray((image * 65535).astype(np.uint16)).save)
        saved(".tif", grey.save)
        saved(".jpg", grey.save)
    except ModuleNotFoundError:
        pass
    try:
        import h5py

        def volume(path, compression):
            with h5py.File(path, "w") as file:
                file.create_dataset("kspace", data=np.ones((2, 6, 5), np.complex64), compression=compression)

        saved(".h5", lambda p: volume(p, None))
        saved(".h5", lambda p: volume(p, "gzip"))
    except ModuleNotFoundError:
        pass
    return found


def npy(header, body=b""):
    """A .npy file of any header."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def png(width, height, bits=8):
    """A .png that claims a size and holds nothing of it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def zipped(members, method=zipfile.ZIP_DEFLATED):
    """A .npz of any members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def hostile():
    """Files made to harm: {what it is: (suffix, bytes)}."""
    shape = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}".format
    pickled = io.BytesIO()
    np.save(pickled, np.array([Marker()], object), allow_pickle=True)
    bomb = npy(shape("'<f8'", (1, 1 << 27)), b"\0" * (1 << 30))
    found = {
        "a pickle named .npy": (".npy", pickle.dumps(Marker())),
        "an array of objects": (".npy", pickled.getvalue()),
        "objects in an .npz": (".npz", zipped({"image.npy": pickled.getvalue()})),
        "a pickle in an .npz": (".npz", zipped({"image.npy": pickle.dumps(Marker())})),
        "a header of petabytes": (".npy", npy(shape("'<f8'", (1 << 25, 1 << 25)))),
        "a header that overflows": (".npy", npy(shape("'<f8'", (1 << 62, 1 << 62)))),
        "a header of negative sizes": (".npy", npy(shape("'<f8'", (-4, 4)), b"\0" * 128)),
        "a header of code": (".npy", npy("__import__('os').mkdir('executed')")),
        "a header of nested brackets": (".npy", npy("(" * 100)),
        "a header of a gigabyte": (".npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", (1 << 30) - 1) + b"{" * 4096),
        "a zip bomb of 1 GiB": (".npz", zipped({"image.npy": bomb})),
        "an .npz of ten thousand members": (".npz", zipped({f"{i}.npy": b"" for i in range(10_000)})),
        "an .npz with a path upwards": (".npz", zipped({"../../image.npy": b"\x93NUMPY"})),
        "a .png of 60000 x 60000": (".png", png(60_000, 60_000)),
        "a .png of 2^31 - 1 squared": (".png", png(2**31 - 1, 2**31 - 1)),
        "a .png of size zero": (".png", png(0, 0)),
        "an empty file": (".npy", b""),
        "text named .h5": (".h5", b"not a volume\n" * 100),
        "a .png named .npy": (".npy", png(4, 4)),
    }
    try:
        import h5py
    except ModuleNotFoundError:
        return found

    def volume(fill):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "made.h5"
            with h5py.File(path, "w") as file:
                fill(file)
            return ".h5", path.read_bytes()

    def large(file):
        file.create_dataset("kspace", (4, 1 << 20, 1 << 20), np.complex64, chunks=(1, 1024, 1024), compression="gzip")

    other = pathlib.Path(tempfile.gettempdir(), "kspike-another-volume.h5")
    with h5py.File(other, "w") as file:
        file["kspace"] = np.ones((2, 8, 8), np.complex64)

    def elsewhere(file):
        file["kspace"] = h5py.ExternalLink(str(other), "/kspace")

    def outside(file):
        file.create_dataset("image", (2, 8, 8), np.uint8, external=[(str(other), 0, 128)])

    def virtual(file):
        layout = h5py.VirtualLayout((2, 8, 8), np.complex64)
        layout[:] = h5py.VirtualSource(str(other), "kspace", (2, 8, 8))
        file.create_virtual_dataset("kspace", layout)

    def wide(file):
        file.create_dataset("image", (1, 1 << 15, 1 << 15), np.uint8, chunks=(1, 1024, 1024), compression="gzip")

    def looped(file):
        file["kspace"] = h5py.SoftLink("/kspace")

    def group(file):
        file.create_group("kspace")

    def objects(file):
        file.create_dataset("kspace", (2, 3, 3), h5py.string_dtype())

    found["an .h5 of 32 TiB, compressed"] = volume(large)
    found["an .h5 that links to another file"] = volume(elsewhere)
    found["an .h5 whose data are another file's"] = volume(outside)
    found["a virtual .h5"] = volume(virtual)
    found["an .h5 of 1 GiB of nothing"] = volume(wide)
    found["an .h5 that links to itself"] = volume(looped)
    found["an .h5 group in place of a volume"] = volume(group)
    found["an .h5 of strings"] = volume(objects)
    return found


def read(suffix, data):
    """Read the bytes as an image and as a mask: how many of the two were refused. Raises on anything else."""
    path, refused = pathlib.Path(f"case{suffix}"), 0
    path.write_bytes(data)
    for reader in (read_image, read_mask):
        try:
            found = reader(path)
        except REFUSALS as error:
            refused += 1
            assert "\n" not in str(error), f"a refusal of several lines: {error}"
        else:
            assert found.ndim == 2 and found.flags.c_contiguous
            assert reader is read_mask or np.isfinite(found).all()
    assert not os.path.exists("executed"), "the file's code was executed"
    return refused


def prepare():
    """What the guided process does first."""
    SEEDS.extend(seeds())
    os.chdir(tempfile.mkdtemp())


def one(draws):
    """A valid file, damaged: bytes changed, cut off, inserted."""
    suffix, data = SEEDS[draws.ConsumeIntInRange(0, len(SEEDS) - 1)]
    data = bytearray(data)
    for _ in range(draws.ConsumeIntInRange(1, 4)):
        at = draws.ConsumeIntInRange(0, max(0, len(data) - 1))
        way = draws.ConsumeIntInRange(0, 3)
        if way == 0:
            data[at : at + 1] = bytes([draws.ConsumeIntInRange(0, 255)])
        elif way == 1:
            del data[at:]
        elif way == 2:
            new = draws.ConsumeBytes(draws.ConsumeIntInRange(1, 8))
            data[at : at + len(new)] = new
        else:
            data[at:at] = draws.ConsumeBytes(draws.ConsumeIntInRange(1, 8))
    signal.alarm(SECONDS)
    read(suffix, bytes(data))
    signal.alarm(0)


def child(count):
    """All hostile files and `count` damaged ones, with the memory limited; prints how many were refused."""
    files = hostile()
    prepare()
    size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + BYTES, size + BYTES))
    refused = 0
    for name, (suffix, data) in files.items():
        print("hostile:", name, file=sys.stderr, flush=True)
        signal.alarm(SECONDS)
        refused += read(suffix, data) == 2
        signal.alarm(0)
    for i in range(count):
        print("damaged:", i, file=sys.stderr, flush=True)
        one(fuzzing.Draws((2, i)))
    print(len(files), refused)


def run(minutes):
    """Hostile files and damaged ones, in a child; in the long version damaged ones guided by coverage too."""
    count = 300 if minutes < 1 else 20_000
    done = subprocess.run(
        [sys.executable, HERE / "readers.py", str(count)], capture_output=True, text=True, errors="replace"
    )
    passed = done.returncode == 0
    if passed:
        files, refused = map(int, done.stdout.split())
        passed = files == refused
        line = f"{refused} of {files} hostile refused; {count:,} damaged ones refused or read"
    else:
        line = f"exit status {done.returncode}: " + " / ".join(done.stderr.strip().splitlines()[-3:])
    table = [("hostile and damaged files", line, "all refused; no crash, 10 s, 600 MiB, nothing executed")]
    if minutes >= 1:
        try:
            import atheris  # noqa: F401
        except ModuleNotFoundError:
            return passed, [*table, ("guided by coverage", "not run: pip install atheris", "no finding")]
        with tempfile.TemporaryDirectory() as corpus:
            clean, line = fuzzing.guided("readers", 60 * minutes, {**os.environ, "KSPIKE_FUZZ": corpus})
        passed &= clean
        table.append((f"guided by coverage, {minutes:g} minutes", line, "no finding"))
    return passed, table


if __name__ == "__main__":
    child(int(sys.argv[1]))
