// SPDX-License-Identifier: MIT
// The Python face of the single kernels: check shapes, release the GIL, call. Compiled once for
// each instruction set into a module of its own (_kernels, _kernels_v3, _kernels_v4), always
// without fused multiply-add, so that all give the same bits.
#include "arrays.hpp"
#include "stencil.hpp"

using namespace kspike;

namespace {

template <class A>
Shape image_shape(const A& x) {
  if (x.ndim() != 3) throw py::value_error("expected an image (batch, rows, cols)");
  return {x.shape(0), x.shape(1), x.shape(2)};
}

template <class T>
void register_kernels(py::module_& m) {
  using A = Array<T>;
  const auto no = [](const char* name) { return py::arg(name).noconvert(); };
  m.def(
      "grad",
      [](const A& x, A& d) {
        const Shape s = image_shape(x);
        expect(d, "out", {s.batch, 2, s.rows, s.cols});
        const T* from = in(x);
        T* to = out(d);
        unlocked([&] { grad(from, to, s); });
        return d;
      },
      no("x"), no("out"));
  m.def(
      "grad_adjoint",
      [](const A& d, A& x) {
        const Shape s = image_shape(x);
        expect(d, "d", {s.batch, 2, s.rows, s.cols});
        const T* from = in(d);
        T* to = out(x);
        unlocked([&] { grad_adjoint(from, to, s); });
        return x;
      },
      no("d"), no("out"));
  m.def(
      "clip",
      [](const A& v, T t, A& u) {
        expect(u, "out", {v.shape(), v.shape() + v.ndim()});
        const T* from = in(v);
        T* to = out(u);
        unlocked([&] { clip(from, t, to, 2 * v.size()); });
        return u;
      },
      no("v"), py::arg("t"), no("out"));
  m.def(
      "shrink",
      [](const A& v, T t, A& z) {
        expect(z, "out", {v.shape(), v.shape() + v.ndim()});
        const T* from = in(v);
        T* to = out(z);
        unlocked([&] { shrink(from, t, to, 2 * v.size()); });
        return z;
      },
      no("v"), py::arg("t"), no("out"));
  m.def(
      "support",
      [](const A& w, T t, Support& bits) {
        const Shape s = image_shape(bits);
        expect(w, "w", {s.batch, 2, s.rows, s.cols});
        const T* from = in(w);
        uint8_t* to = bits.mutable_data();
        unlocked([&] { support(from, t, to, s); });
        return bits;
      },
      no("w"), py::arg("t"), no("out"));
  m.def(
      "reflect",
      [](const A& w, T t, A& x) {
        const Shape s = image_shape(x);
        expect(w, "w", {s.batch, 2, s.rows, s.cols});
        const T* from = in(w);
        T* to = out(x);
        unlocked([&] { reflect(from, t, to, s); });
        return x;
      },
      no("w"), py::arg("t"), no("out"));
  m.def(
      "reflect_tangent",
      [](const A& dw, const Support& bits, A& x) {
        const Shape s = image_shape(x);
        expect(dw, "dw", {s.batch, 2, s.rows, s.cols});
        expect(bits, "bits", {s.batch, s.rows, s.cols});
        const T* from = in(dw);
        const uint8_t* on = bits.data();
        T* to = out(x);
        unlocked([&] { reflect_tangent(from, on, to, s); });
        return x;
      },
      no("dw"), no("bits"), no("out"));
  m.def(
      "shrink_update",
      [](const A& w, const A& x, T t, T relax, A& next) {
        const Shape s = image_shape(x);
        expect(w, "w", {s.batch, 2, s.rows, s.cols});
        expect(next, "out", {s.batch, 2, s.rows, s.cols});
        const T *field = in(w), *image = in(x);
        T* to = out(next);
        unlocked([&] { shrink_update(field, image, t, relax, to, s); });
        return next;
      },
      no("w"), no("x"), py::arg("t"), py::arg("relax"), no("out"));
  m.def(
      "shrink_update_tangent",
      [](const A& dw, const A& dx, const Support& bits, T relax, A& next) {
        const Shape s = image_shape(dx);
        expect(dw, "dw", {s.batch, 2, s.rows, s.cols});
        expect(bits, "bits", {s.batch, s.rows, s.cols});
        expect(next, "out", {s.batch, 2, s.rows, s.cols});
        const T *field = in(dw), *image = in(dx);
        const uint8_t* on = bits.data();
        T* to = out(next);
        unlocked([&] { shrink_update_tangent(field, image, on, relax, to, s); });
        return next;
      },
      no("dw"), no("dx"), no("bits"), py::arg("relax"), no("out"));
  m.def(
      "shrink_update_adjoint",
      [](const A& g, const A& r, const Support& bits, T relax, T rho, A& next) {
        const Shape s = image_shape(r);
        expect(g, "g", {s.batch, 2, s.rows, s.cols});
        expect(bits, "bits", {s.batch, s.rows, s.cols});
        expect(next, "out", {s.batch, 2, s.rows, s.cols});
        const T *field = in(g), *image = in(r);
        const uint8_t* on = bits.data();
        T* to = out(next);
        unlocked([&] { shrink_update_adjoint(field, image, on, relax, rho, to, s); });
        return next;
      },
      no("g"), no("r"), no("bits"), py::arg("relax"), py::arg("rho"), no("out"));
}

}  // namespace

PYBIND11_MODULE(KSPIKE_MODULE, m, py::mod_gil_not_used()) {
  register_kernels<float>(m);
  register_kernels<double>(m);
#ifdef KSPIKE_BASELINE
  // The best instruction set of this processor for which there can be a module.
  m.def("isa", [] {
#if defined(__x86_64__)
    __builtin_cpu_init();
    // By their features, as not every compiler knows the levels' names.
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    if (v4) return "v4";
    if (v3) return "v3";
#endif
    return "baseline";
  });
#endif
}
