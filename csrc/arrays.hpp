// SPDX-License-Identifier: MIT
// NumPy arrays at the door of the engine: what is checked of them, and the numbers in them.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <complex>
#include <cstdint>
#include <string>
#include <vector>

namespace kspike {

namespace py = pybind11;

template <class T>
using Array = py::array_t<std::complex<T>, py::array::c_style>;
using Support = py::array_t<uint8_t, py::array::c_style>;

// A shape that is not the one expected is an error.
template <class A>
void expect(const A& a, const char* name, const std::vector<int64_t>& want) {
  if (std::vector<int64_t>(a.shape(), a.shape() + a.ndim()) == want) return;
  std::string text = std::string(name) + ": expected shape (";
  for (int64_t n : want) text += std::to_string(n) + ", ";
  text += "), got (";
  for (py::ssize_t i = 0; i < a.ndim(); ++i) text += std::to_string(a.shape(i)) + ", ";
  throw py::value_error(text + ")");
}

// The numbers of a complex array, which have to lie where a processor may load them.
template <class T>
T* aligned(T* p) {
  if (reinterpret_cast<std::uintptr_t>(p) % alignof(T) != 0)
    throw py::value_error(
        "expected aligned memory, got numbers that begin between two: copy the array");
  return p;
}
template <class T>
const T* in(const Array<T>& a) {
  return aligned(reinterpret_cast<const T*>(a.data()));
}
template <class T>
T* out(Array<T>& a) {
  return aligned(reinterpret_cast<T*>(a.mutable_data()));
}

// f() without the GIL; pointers to arrays are taken before, as an array that may not be written
// raises.
template <class F>
auto unlocked(F f) {
  py::gil_scoped_release released;
  return f();
}

}  // namespace kspike
