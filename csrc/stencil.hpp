// SPDX-License-Identifier: MIT
// The kernels of image space on plain arrays, for people who write their own solver. Meaning:
// kspike/reference.py. Images are (batch, rows, cols), fields (batch, 2, rows, cols), complex
// numbers interleaved; outputs overlap nothing.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "scalar.hpp"

namespace kspike {

struct Shape {
  int64_t batch, rows, cols;
  int64_t plane() const {
    return 2 * rows * cols;
  }  // numbers in an image, and in a channel of a field
};

// f(k) for begin <= k < end, the first few apart: the vectors stored at out + k then lie within
// lines of the cache. NumPy's large arrays begin 16 bytes into one.
template <class T, class F>
void each(const T* out, int64_t begin, int64_t end, F f) {
  const uintptr_t beyond = reinterpret_cast<uintptr_t>(out + begin) % 64;
  const int64_t apart = static_cast<int64_t>((64 - beyond) % 64 / sizeof(T));
  const int64_t head = std::min(end, begin + apart);
  for (int64_t k = begin; k < head; ++k) f(k);
  for (int64_t k = head; k < end; ++k) f(k);
}

// d(channel, k) for every number k of a plane, where k's neighbour on the torus is `below` or
// `right` of it; `out` is where the first channel goes, and the second a plane later.
template <class T, class F>
void each_difference(Shape s, const T* out, F d) {
  const int64_t n = 2 * s.cols;
  if (n == 0) return;
  for (int64_t i = 0; i < s.rows; ++i) {
    const int64_t row = i * n, end = row + n, down = i + 1 < s.rows ? n : n - s.plane();
    each(out, row, end, [&](int64_t k) { d(0, k, k + down); });
    each(out + s.plane(), row, end - 2, [&](int64_t k) { d(1, k, k + 2); });
    for (int64_t k = end - 2; k < end; ++k) d(1, k, k + 2 - n);
  }
}

// out = D* f for the field whose numbers are f(channel, k).
template <class T, class F>
void each_adjoint(Shape s, T* out, F f) {
  const int64_t n = 2 * s.cols;
  if (n == 0) return;
  for (int64_t i = 0; i < s.rows; ++i) {
    const int64_t row = i * n, end = row + n, up = i > 0 ? n : n - s.plane();
    const auto put = [&](int64_t k, int64_t left) {
      out[k] = (f(0, k - up) - f(0, k)) + (f(1, left) - f(1, k));
    };
    for (int64_t k = row; k < row + 2; ++k) put(k, k + n - 2);
    each(out, row + 2, end, [&](int64_t k) { put(k, k - 2); });
  }
}

// Whether the bit of number k of a channel is set.
inline bool is_on(const uint8_t* bits, int channel, int64_t k) {
  return bits[k / 2] >> (2 * channel + static_cast<int>(k & 1)) & 1;
}

template <class T>
void grad(const T* x, T* d, Shape s) {
  for (int64_t b = 0; b < s.batch; ++b, x += s.plane(), d += 2 * s.plane())
    each_difference(s, d,
                    [&](int c, int64_t k, int64_t next) { d[c * s.plane() + k] = x[next] - x[k]; });
}

template <class T>
void grad_adjoint(const T* d, T* x, Shape s) {
  for (int64_t b = 0; b < s.batch; ++b, d += 2 * s.plane(), x += s.plane())
    each_adjoint(s, x, [&](int c, int64_t k) { return d[c * s.plane() + k]; });
}

template <class T>
void clip(const T* v, T t, T* out, int64_t n) {
  each(out, 0, n, [&](int64_t k) { out[k] = clip(v[k], t); });
}

template <class T>
void shrink(const T* v, T t, T* out, int64_t n) {
  each(out, 0, n, [&](int64_t k) { out[k] = shrink(v[k], t); });
}

template <class T>
void support(const T* w, T t, uint8_t* bits, Shape s) {
  for (int64_t b = 0; b < s.batch; ++b, w += 2 * s.plane(), bits += s.plane() / 2)
    for (int64_t p = 0; p < s.plane() / 2; ++p) {
      const T *w0 = w + 2 * p, *w1 = w0 + s.plane();
      bits[p] = static_cast<uint8_t>(support(w0[0], t) | support(w0[1], t) << 1 |
                                     support(w1[0], t) << 2 | support(w1[1], t) << 3);
    }
}

template <class T>
void reflect(const T* w, T t, T* x, Shape s) {
  for (int64_t b = 0; b < s.batch; ++b, w += 2 * s.plane(), x += s.plane())
    each_adjoint(s, x, [&](int c, int64_t k) { return reflect(w[c * s.plane() + k], t); });
}

template <class T>
void reflect_tangent(const T* dw, const uint8_t* bits, T* x, Shape s) {
  for (int64_t b = 0; b < s.batch; ++b, dw += 2 * s.plane(), bits += s.plane() / 2, x += s.plane())
    each_adjoint(s, x, [&](int c, int64_t k) {
      return reflect_tangent(dw[c * s.plane() + k], is_on(bits, c, k));
    });
}

template <class T>
void shrink_update(const T* w, const T* x, T t, T relax, T* out, Shape s) {
  for (int64_t b = 0; b < s.batch; ++b, w += 2 * s.plane(), x += s.plane(), out += 2 * s.plane())
    each_difference(s, out, [&](int c, int64_t k, int64_t next) {
      const int64_t at = c * s.plane() + k;
      out[at] = shrink_update(w[at], x[next] - x[k], t, relax);
    });
}

template <class T>
void shrink_update_tangent(const T* dw, const T* dx, const uint8_t* bits, T relax, T* out,
                           Shape s) {
  for (int64_t b = 0; b < s.batch;
       ++b, dw += 2 * s.plane(), dx += s.plane(), bits += s.plane() / 2, out += 2 * s.plane())
    each_difference(s, out, [&](int c, int64_t k, int64_t next) {
      const int64_t at = c * s.plane() + k;
      out[at] = shrink_update_tangent(dw[at], dx[next] - dx[k], is_on(bits, c, k), relax);
    });
}

template <class T>
void shrink_update_adjoint(const T* g, const T* r, const uint8_t* bits, T relax, T rho, T* out,
                           Shape s) {
  for (int64_t b = 0; b < s.batch;
       ++b, g += 2 * s.plane(), r += s.plane(), bits += s.plane() / 2, out += 2 * s.plane())
    each_difference(s, out, [&](int c, int64_t k, int64_t next) {
      const int64_t at = c * s.plane() + k;
      out[at] = shrink_update_adjoint(g[at], r[next] - r[k], is_on(bits, c, k), relax, rho);
    });
}

}  // namespace kspike
