# SPDX-License-Identifier: MIT
"""Arrays that behave as CuPy's do where no CuPy is: NumPy's numbers behind CuPy's manners.

They take NumPy's functions with the arguments that CuPy 14 has for them and no others, refuse to be mixed with NumPy
arrays or turned into one unasked, and count in `syncs` each time that the host would wait for the device. `launched`
counts what would be put on its queue.
"""

import collections
import time
import types

import numpy as np

syncs: collections.Counter = collections.Counter()
capture: list | None = None  # what a stream records instead of running it

# What CuPy 14.2 has of NumPy, as far as kspike may ask for it: name -> the arguments beyond the arrays.
FUNCTIONS = {
    "all": "axis out keepdims",
    "any": "axis out keepdims",
    "argmax": "axis dtype out keepdims",
    "ascontiguousarray": "dtype",
    "arange": "dtype",
    "asarray": "dtype order copy blocking",
    "bincount": "weights minlength",
    "broadcast_to": "",
    "clip": "a_min a_max out",
    "concatenate": "axis out dtype casting",
    "copyto": "casting where",
    "cumsum": "axis dtype out",
    "empty_like": "dtype order subok shape",
    "flatnonzero": "",
    "full_like": "dtype order subok shape",
    "may_share_memory": "max_work",
    "norm": "ord axis keepdims",
    "put_along_axis": "",
    "repeat": "axis",
    "reshape": "order",
    "roll": "axis",
    "shape": "",
    "sort": "axis kind",
    "stack": "axis out dtype casting",
    "sum": "axis dtype out keepdims",
    "take_along_axis": "",
    "where": "",
    "zeros_like": "dtype order subok shape",
}
MAKERS = "arange empty full ones zeros".split()
WAITS = {"flatnonzero", "bincount"}  # the size of the result depends on the data
REDUCTIONS = {
    "all": "axis out keepdims",
    "any": "axis out keepdims",
    "argmax": "axis out dtype keepdims",
    "max": "axis out keepdims",
    "min": "axis out keepdims",
    "mean": "axis dtype out keepdims",
    "sum": "axis dtype out keepdims",
}


def working(what):
    """Something else than a kernel goes to the device: a capture of ours has no such thing."""
    assert capture is None, f"{what} during a capture"


def host(x):
    """What is behind an array, or behind those of a list; NumPy's own arrays are refused as CuPy refuses them."""
    if isinstance(x, ndarray):
        return x._host
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    return type(x)(host(v) for v in x) if isinstance(x, list | tuple) else x


def wrap(x):
    """An array for an array or a number of NumPy; anything else as it is."""
    if isinstance(x, tuple):
        return tuple(map(wrap, x))
    return ndarray(np.asarray(x)) if isinstance(x, np.ndarray | np.generic) else x


def _wait(kind):
    working(kind)
    syncs[kind] += 1


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """See above."""

    __module__ = "cupy"

    def __init__(self, data):
        self._host = data

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    flags = property(lambda self: self._host.flags)
    strides = property(lambda self: self._host.strides)
    real = property(lambda self: wrap(self._host.real))
    imag = property(lambda self: wrap(self._host.imag))
    data = property(lambda self: types.SimpleNamespace(ptr=self._host.ctypes.data))

    @property
    def device(self):
        return Device()

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __repr__(self):
        return f"device {self._host!r}"

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if method != "__call__" or options.keys() - {"dtype", "casting"}:
            raise TypeError(f"CuPy has no {ufunc.__name__}.{method} with {sorted(options)}")
        working(ufunc.__name__)
        given = [host(x) for x in inputs]
        if out is None:
            return wrap(ufunc(*given, **options))
        ufunc(*given, out=host(out[0]), **options)
        return out[0]

    def __array_function__(self, function, kinds, arguments, options):
        name = function.__name__
        if name not in FUNCTIONS or options.keys() - set(FUNCTIONS[name].split()):
            raise TypeError(f"CuPy has no {name} with {sorted(options)}")
        if options.get("subok") is not None:
            raise TypeError("subok is not supported yet")
        working(name)
        if name in WAITS:
            _wait(name)
        if name == "asarray":
            return asarray(*arguments, **options)
        if name in MAKERS:
            return wrap(function(*arguments, **options))
        return wrap(function(*map(host, arguments), **{k: host(v) for k, v in options.items()}))

    def __array__(self, *arguments, **options):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __getitem__(self, index):
        at = _index(index)
        return wrap(self._host[at])

    def __setitem__(self, index, value):
        working("assignment")
        if isinstance(value, np.ndarray) and value.ndim:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        self._host[_index(index)] = host(value)

    def _reduce(self, name, arguments, options):
        if options.keys() - set(REDUCTIONS[name].split()):
            raise TypeError(f"{name}() got an unexpected keyword argument: {sorted(options)}")
        working(name)
        return wrap(getattr(self._host, name)(*arguments, **{k: host(v) for k, v in options.items()}))

    def astype(self, dtype, order="K", copy=True):
        working("astype")
        return wrap(self._host.astype(dtype, order, copy=copy))

    def copy(self, order="C"):
        working("copy")
        return wrap(self._host.copy(order))

    def conj(self):
        return wrap(self._host.conj())

    def reshape(self, *shape):
        return wrap(self._host.reshape(*shape))

    def ravel(self):
        return wrap(self._host.ravel())

    def repeat(self, repeats, axis=None):
        return wrap(self._host.repeat(repeats, axis))

    def view(self, dtype=None):
        return wrap(self._host.view(dtype))

    def fill(self, value):
        self[...] = value

    def get(self, out=None):
        _wait("get")
        return self._host.copy() if out is None else _into(out, self._host)

    def item(self):
        _wait("item")
        return self._host.item()

    def tolist(self):
        _wait("tolist")
        return self._host.tolist()

    def __bool__(self):
        _wait("bool")
        return bool(self._host)

    def __float__(self):
        _wait("float")
        return float(self._host)

    def __int__(self):
        _wait("int")
        return int(self._host)

    def __index__(self):
        _wait("index")
        return self._host.__index__()

    def __complex__(self):
        _wait("complex")
        return complex(self._host)

    def __dlpack__(self, **options):
        return self._host.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._host.__dlpack_device__()


for _name in REDUCTIONS:
    setattr(ndarray, _name, lambda self, *a, _name=_name, **o: self._reduce(_name, a, o))


def _index(index):
    """An index as NumPy takes it; one of truth values has a result whose size the host waits for."""
    parts = index if isinstance(index, tuple) else (index,)
    if any(getattr(p, "dtype", None) == np.bool_ for p in parts):
        _wait("boolean index")
    found = tuple(p._host if isinstance(p, ndarray) else p for p in parts)
    return found if isinstance(index, tuple) else found[0]


def _into(out, value):
    out[...] = value
    return out


class Device:
    """The one device."""

    compute_capability = "90"
    attributes = {"MaxSharedMemoryPerBlockOptin": 227 << 10}  # noqa: RUF012

    def __init__(self, id=0):
        self.id = id

    def __eq__(self, other):
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self):
        return self.id

    def __repr__(self):
        return f"<CUDA Device {self.id}>"


class Event:
    """Over when the host waits for it; that is a wait too, but not for the end of the queue."""

    def __init__(self, disable_timing=False):
        pass

    def record(self):
        working("an event")
        self.time = time.perf_counter()

    def synchronize(self):
        _wait("event")


class Graph:
    """The launches that a stream captured."""

    launched = 0

    def __init__(self, launches):
        self.launches = launches

    def launch(self):
        working("a graph")
        Graph.launched += 1
        for launch in self.launches:
            launch()


class Stream:
    """Captures what is launched inside `with`."""

    def __init__(self, non_blocking=False):
        self.non_blocking = non_blocking

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def synchronize(self):
        _wait("stream")

    def begin_capture(self):
        global capture
        assert self.non_blocking and capture is None
        capture = []

    def end_capture(self):
        global capture
        launches, capture = capture, None
        return Graph(launches)


def run(launch):
    """Run a launch, or record it."""
    if capture is None:
        return launch()
    capture.append(launch)


def asarray(a, dtype=None, **options):
    """A NumPy array copied to the device, or an array that is there."""
    working("asarray")
    if isinstance(a, ndarray):
        return a if dtype is None or a.dtype == dtype else a.astype(dtype)
    return ndarray(np.array(a, dtype, order="C"))


def asnumpy(a, out=None, blocking=True):
    """Back; not blocking, it only joins the queue."""
    if not isinstance(a, ndarray):
        return np.asarray(a)
    if blocking:
        return a.get(out)
    working("a copy")
    return _into(out, a._host)


class _CufftPlan:
    def fft(self, x, out, direction):
        forward = direction == -1
        transform, norm = (np.fft.fft2, "backward") if forward else (np.fft.ifft2, "forward")
        working("cuFFT")
        out._host[...] = transform(x._host, axes=(-2, -1), norm=norm)


def modules(raw_module):
    """The modules cupy and cupyx, with as much in them as kspike asks for."""
    cupy = types.ModuleType("cupy")
    for name in "complex64 complex128 float32 float64 int32 int64 uint8 uint32".split():
        setattr(cupy, name, getattr(np, name))
    for name in MAKERS:
        setattr(cupy, name, lambda *a, _name=name, **o: wrap(getattr(np, _name)(*a, **o)))
    for name in (*FUNCTIONS.keys() - {"norm", *MAKERS}, "abs", "isfinite", "sqrt"):
        setattr(cupy, name, getattr(np, name))
    cupy.linalg = types.SimpleNamespace(norm=np.linalg.norm)
    cupy.__version__, cupy.ndarray, cupy.RawModule, cupy.is_available = "emulated", ndarray, raw_module, lambda: True
    cupy.asarray, cupy.asnumpy, cupy.where = asarray, asnumpy, lambda c, a, b: wrap(np.where(*map(host, (c, a, b))))
    cufft = types.SimpleNamespace(CUFFT_FORWARD=-1, CUFFT_INVERSE=1)
    cupy.cuda = types.SimpleNamespace(Device=Device, Event=Event, Stream=Stream, cufft=cufft)
    cupy.cuda.get_current_stream = Stream
    cupy.cuda.get_elapsed_time = lambda start, end: 1e3 * (end.time - start.time)
    cupy.fft = types.SimpleNamespace(
        **{name: lambda x, _name=name: wrap(getattr(np.fft, _name)(host(x))) for name in ("fft2", "ifft2")}
    )
    cupyx, scipy, fft = (types.ModuleType(name) for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.fft"))
    cupyx.empty_pinned, cupyx.scipy, scipy.fft, fft.get_fft_plan = np.empty, scipy, fft, lambda x, axes: _CufftPlan()
    return {m.__name__: m for m in (cupy, cupyx, scipy, fft)}
