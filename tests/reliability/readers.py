# SPDX-License-Identifier: MIT
"""Hostile files: truncated, bit-flipped, bombs, pickles, headers that lie. Refused by one line, or read as they are.

Every reader: of images and masks, of the specification of a sweep, its parts, its records of failures and of what was
tuned, of the pieces of `kspike paper`, of networks. A case may take ten seconds of a core and 256 MiB at most, the peak
of the resident memory above what was resident before, and must execute nothing. The whole runs in a process of its own
with a limit on its memory, so that a crash of a library beneath is seen and survives nowhere else.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
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

from kspike import read_image, read_mask, sampling
from kspike.paper import results
from kspike.sweep import specification
from kspike.sweep.store import Store

TITLE = "Hostile files"
HERE = pathlib.Path(__file__).parent
REFUSALS = (ValueError, ImportError, FileNotFoundError)
SECONDS, BYTES, LIMIT = 10, 256 << 20, 600 << 20
RESIDENT = 2048  # MiB, of the guided process: PyTorch, what counts the coverage, and the corpus
SEEDS: list[tuple[str, bytes]] = []
try:
    NETS = importlib.import_module("kspike.nets")
except ModuleNotFoundError:  # no PyTorch
    NETS = None
SPECIFICATION = {
    "images": [{"kind": "ellipses", "size": 8, "count": 2}, {"kind": "shepp_logan", "size": [8, 8]}],
    "masks": [{"kind": "radial", "lines": 3}, {"kind": "cartesian", "acceleration": 2}],
    "noise": [0.01, 0.04],
    "reconstructions": [
        {"kind": "tv", "lam": {"0.01": 1e-3, "0.04": 5e-3}},
        {"kind": "python", "make": "trap:make", "options": {}},  # importing it leaves a trace
    ],
    "attack": {"preset": "default", "radius": "inf", "optimiser": {"kind": "power"}},
    "grid": [2, 2],
}
TOML = b"""
images = [{kind = "ellipses", size = 8}]
noise = [0.04]
keep = ["artifact"]
[[masks]]
kind = "radial"
lines = 3
[[reconstructions]]
kind = "tv"
lam = "tuned"
tune.criterion = "truth"
"""
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(executed) (w) file closefile\n"
LAUGHS = b"a: &a [lol]\n" + b"".join(
    b"%c: &%c [%s]\n" % (i + 1, i + 1, b", ".join([b"*%c" % i] * 9)) for i in range(97, 110)
)
BRACKETS = {"json": b'{"images": ', "yaml": b"images: ", "toml": b"images = "}
LARGE = {
    "a billion images": {"images": [{"kind": "ellipses", "size": 8, "count": 10**9}]},
    "images of 60000 x 60000": {"images": [{"kind": "ellipses", "size": 60_000}]},
    "a billion lines": {"masks": [{"kind": "radial", "lines": 10**9}]},
    "a grid of 10^10": {"grid": [10**5, 10**5], "images": [{"kind": "ellipses", "size": 8192}]},
    "a chunk without end": {"chunk": 10**400},
    "a size of infinity": {"images": [{"kind": "ellipses", "size": float("inf")}]},
}
JPEGS = {"grey": lambda: jpeg(1), "in colour": lambda: jpeg(3)}
TASK, DESCRIBED = "ab" * 16, "{}"


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
    text = json.dumps(SPECIFICATION)
    found += [(".json", text.encode()), (".yaml", text.encode()), (".toml", TOML)]
    found.append((".part", zipped({"about.npy": about({"finished": 1.0}), "score.npy": saved_array(image)}, 0)))
    found.append((".piece", zipped({"described.npy": saved_array(DESCRIBED), "score.npy": saved_array(image)})))
    found += [(".failed", b'{"task": "a", "reason": "b"}'), (".tuned", b'{"lam": [1, 2], "error": [0.5, 0.25]}')]
    if NETS:
        saved(".safetensors", network)
    return found


def network(path):
    """Write a small network."""
    words = {"kind": "tirafl", "subnet": "UNet", "options": {"base_features": 1}, "num_iter": 2}
    mask = sampling.radial_mask((6, 5), lines=2)
    NETS.save(NETS.build(mask, **words), path, words, {"note": "a seed"})


def saved_array(value):
    """An array as the bytes of an .npy file."""
    file = io.BytesIO()
    np.save(file, np.asarray(value))
    return file.getvalue()


def about(value):
    """What a part says of itself, as the bytes of an .npy file."""
    return saved_array(np.frombuffer(json.dumps(value).encode(), np.uint8))


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


def tiff(tile):
    """A .tif of 9 x 7 in one tile of any sides, of which it holds nothing."""
    tags = {256: 9, 257: 7, 258: 8, 259: 5, 262: 1, 277: 1, 322: tile[1], 323: tile[0], 324: 150, 325: 64}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(128)


def jpeg(colours):
    """A .jpg of 9 x 7 that claims 8192 x 8192."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.zeros((9, 7, 3)[: 2 + (colours > 1)], np.uint8)).save(file, "JPEG")
    data = bytearray(file.getvalue())
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 8192, 8192)
    return bytes(data)


def changed(**keys):
    """The specification with other keys."""
    return json.dumps(SPECIFICATION | keys).encode()


def networks():
    """Files of networks that harm, by what they are."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "seed.safetensors"
        network(path)
        tensors, header = NETS.checkpoint.read(path)

        def made(less=(), **words):
            kept = {name: t for name, t in tensors.items() if name not in less}
            NETS.checkpoint.write(path, kept, header | words)
            return path.read_bytes()

        words = header["network"]
        return {
            "that is a pickle": pickle.dumps(Marker()),
            "with a header of exabytes": struct.pack("<Q", 1 << 60) + b"{}",
            "of no tensors": made(less=list(tensors)[1:]),
            "of no mask": made(less=["mask"]),
            "of nothing": made(network=None),
            "of a list": made(network=[1]),
            "of no format": made(format=None),
            "of another kind": made(network=words | {"kind": "tyra"}),
            "of a billion steps": made(network=words | {"num_iter": 10**9}),
            "of a billion features": made(network=words | {"options": {"base_features": 10**9}}),
            "of 4096 features": made(network=words | {"options": {"base_features": 4096}}),
            "of negative features": made(network=words | {"options": {"base_features": -1}}),
            "of features in words": made(network=words | {"options": {"base_features": "many"}}),
            "of options unknown": made(network=words | {"options": {"os.mkdir": "executed"}}),
        }


def hostile():
    """Files made to harm: {what it is: (suffix, bytes)}."""
    shape = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}".format
    image, pickled = np.ones((9, 7), np.float32), io.BytesIO()
    np.save(pickled, np.array([Marker()], object), allow_pickle=True)
    bomb = zipped({"image.npy": npy(shape("'<f8'", (1, 1 << 27)), b"\0" * (1 << 30))})
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
        "a zip bomb of 1 GiB": (".npz", bomb),
        "an .npz of ten thousand members": (".npz", zipped({f"{i}.npy": b"" for i in range(10_000)})),
        "an .npz with a path upwards": (".npz", zipped({"../../image.npy": b"\x93NUMPY"})),
        "a .png of 60000 x 60000": (".png", png(60_000, 60_000)),
        "a .png of 2^31 - 1 squared": (".png", png(2**31 - 1, 2**31 - 1)),
        "a .png of size zero": (".png", png(0, 0)),
        "an empty file": (".npy", b""),
        "text named .h5": (".h5", b"not a volume\n" * 100),
        "a .png named .npy": (".npy", png(4, 4)),
        "PostScript named .png": (".png", POSTSCRIPT),
        "an .npz compressed by bzip2": (".npz", zipped({"image.npy": saved_array(image)}, zipfile.ZIP_BZIP2)),
        "an .npz compressed by LZMA": (".npz", zipped({"image.npy": saved_array(image)}, zipfile.ZIP_LZMA)),
        "a .tif with a tile of 1 GiB": (".tif", tiff(tile=(32752, 32752))),
        "a part of 1 GiB": (".part", bomb),
        "a part that is a pickle": (".part", pickle.dumps(Marker())),
        "a part of objects": (".part", zipped({"about.npy": pickled.getvalue()})),
        "a part that says nothing": (".part", zipped({"score.npy": saved_array(1.0)})),
        "a part that says no JSON": (".part", zipped({"about.npy": saved_array(np.zeros(4, np.uint8))})),
        "a part that says it in brackets": (".part", zipped({"about.npy": saved_array(np.full(10**6, 91, np.uint8))})),
        "a piece of 1 GiB": (".piece", bomb),
        "a piece of objects": (".piece", zipped({"described.npy": pickled.getvalue()})),
        "a piece of another name": (".piece", zipped({"described.npy": saved_array("other")})),
        "brackets for a failure": (".failed", b"[" * 10**6),
        "half a failure": (".failed", b'{"task": "a", '),
        "brackets for what was tuned": (".tuned", b"[" * 10**6),
        "YAML that laughs": (".yaml", LAUGHS),
        "YAML that holds itself": (".yaml", b"images: &a [*a]\nmasks: *a\nnoise: *a\nreconstructions: *a"),
        "YAML that calls": (".yaml", b"images: !!python/object/apply:os.mkdir [executed]"),
        "a specification of 2 MiB": (".yaml", b"# " * 2**20),
        "a TOML name in 100,000 parts": (".toml", b".".join([b"a"] * 100_000) + b" = 1"),
        "a number of 100,000 digits": (".json", b'{"seed": ' + b"9" * 10**5 + b"}"),
        **{f"brackets in {kind}": (f".{kind}", begin + b"[" * 200_000) for kind, begin in BRACKETS.items()},
        **{f"a specification of {what}": (".json", changed(**keys)) for what, keys in LARGE.items()},
    }
    for what, lie in JPEGS.items():
        found[f"a .jpg of 8192 x 8192 in few bytes, {what}"] = (".jpg", lie())
    if NETS:
        found |= {f"a network {what}": (".safetensors", data) for what, data in networks().items()}
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


def image(reader, path):
    """Read an image or a mask and look at it."""
    found = reader(path)
    assert found.ndim == 2 and found.flags.c_contiguous
    assert reader is read_mask or np.isfinite(found).all()


def part(path):
    """Read a part of a sweep, with the hash of whatever it holds."""
    data, store = path.read_bytes(), Store("store")
    store.path(TASK).parent.mkdir(parents=True, exist_ok=True)
    store.path(TASK).write_bytes(data + hashlib.sha256(data).hexdigest().encode())
    return given(store.read(TASK))


def record(folder, reader, path):
    """Read a record of a sweep in JSON."""
    there = pathlib.Path("store", folder, f"{TASK}.json")
    there.parent.mkdir(parents=True, exist_ok=True)
    there.write_bytes(path.read_bytes())
    return reader(Store("store"))


def given(value):
    """The value; for readers that answer None to what is not whole, a refusal."""
    if value is None:
        raise ValueError("not there, or not whole")
    return value


IMAGES = [lambda path: image(read_image, path), lambda path: image(read_mask, path)]
READERS = {
    **{suffix: IMAGES for suffix in (".npy", ".npz", ".png", ".tif", ".jpg", ".h5")},
    **{suffix: [specification.read] for suffix in (".yaml", ".toml", ".json")},
    ".part": [part],
    ".piece": [lambda path: given(results._read(path, DESCRIBED))],
    ".failed": [lambda path: record("failed", lambda store: store.failures([TASK]), path)],
    ".tuned": [lambda path: given(record("tuned", lambda store: store.tuned(TASK, lambda: None), path))],
    ".safetensors": [lambda path: NETS.load(path)],
}


def peak():
    """The largest resident memory since the last `forget`, in bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def forget():
    """Let the peak begin anew at what is resident now."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def read(suffix, data):
    """Read the bytes by every reader of the suffix: whether all refused. Raises on anything else."""
    path, refused = pathlib.Path(f"case{suffix}"), 0
    path.write_bytes(data)
    forget()
    before = peak()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    for reader in READERS[suffix]:
        try:
            reader(path)
        except REFUSALS as error:
            refused += 1
            assert "\n" not in str(error), f"a refusal of several lines: {error}"
    signal.setitimer(signal.ITIMER_PROF, 0)
    grown = peak() - before
    assert grown <= BYTES, f"{suffix}: took {grown >> 20} MiB"
    assert not os.path.exists("executed"), "the file's code was executed"
    return refused == len(READERS[suffix])


def prepare():
    """What the guided process does first."""
    SEEDS.extend(seeds())
    os.chdir(tempfile.mkdtemp())
    pathlib.Path("trap.py").write_text("import os; os.mkdir('executed')")
    sys.path.insert(0, os.getcwd())
    for suffix, data in SEEDS:
        assert not read(suffix, data), f"a seed that is refused: {suffix}"


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
    read(suffix, bytes(data))


def child(count):
    """All hostile files and `count` damaged ones, with the memory limited; prints how many were refused."""
    files = hostile()
    prepare()
    size = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + LIMIT, size + LIMIT))
    refused = 0
    for name, (suffix, data) in files.items():
        print("hostile:", name, file=sys.stderr, flush=True)
        refused += read(suffix, data)
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
    table = [("hostile and damaged files", line, "all refused; no crash, 10 s, 256 MiB, nothing executed")]
    if minutes >= 1:
        try:
            import atheris  # noqa: F401
        except ModuleNotFoundError:
            return passed, [*table, ("guided by coverage", "not run: pip install atheris", "no finding")]
        with tempfile.TemporaryDirectory() as corpus:
            clean, line = fuzzing.guided("readers", 60 * minutes, {**os.environ, "KSPIKE_FUZZ": corpus})
        passed &= clean
        table.append((f"guided by coverage, {minutes:g} minutes", line, f"no finding, {RESIDENT} MiB"))
    return passed, table


if __name__ == "__main__":
    child(int(sys.argv[1]))
