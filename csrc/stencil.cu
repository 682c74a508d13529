// SPDX-License-Identifier: MIT
// The kernels of the contract, one thread a pixel, and the fused TV kernel for sizes whose
// transforms are cuFFT's. Threads (32, 8), grid (cols / 32, rows / 8, batch). What each kernel
// means is said in kspike.reference; the host twin is stencil.hpp.
#include "pixel.hpp"
#include "update.hpp"

KS_DEVICE void grad_at(const Pixel& p, const Complex* x, Complex* d) {
  const Complex here = x[p.at()];
  d[0] = x[p.at(p.down(), p.j)] - here;
  d[1] = x[p.at(p.i, p.right())] - here;
}

KS_KERNEL grad(Complex* out, const Complex* x, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  Complex d[2];
  grad_at(p, x, d);
  for (int c = 0; c < 2; ++c) out[p.field(c)] = d[c];
}

KS_KERNEL grad_adjoint(Complex* out, const Complex* d, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  out[p.at()] = grad_adjoint_at(d[p.field(0, p.up(), p.j)], d[p.field(0)],
                                d[p.field(1, p.i, p.left())], d[p.field(1)]);
}

// These two take an array of any shape, of n numbers: threads (256), grid (n / 256).
KS_KERNEL clip(Complex* out, const Complex* v, Real t, long long n) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = parts([&](Real a) { return kspike::clip(a, t); }, v[i]);
}

KS_KERNEL shrink(Complex* out, const Complex* v, Real t, long long n) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = parts([&](Real a) { return kspike::shrink(a, t); }, v[i]);
}

KS_KERNEL support(unsigned char* out, const Complex* w, Real t, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  out[p.at()] = (unsigned char)Update{t, 0}.bits(w[p.field(0)], w[p.field(1)]);
}

// The field around the pixel; its bits are those of a byte array, of a tape, or none.
KS_DEVICE Field field_at(const Pixel& p, const Complex* w) {
  return {w[p.field(0)],
          w[p.field(1)],
          w[p.field(0, p.up(), p.j)],
          w[p.field(1, p.i, p.left())],
          0,
          0,
          0};
}
KS_DEVICE void with_bytes(Field& f, const Pixel& p, const unsigned char* bits) {
  f.here = bits[p.at()];
  f.above = bits[p.at(p.up(), p.j)];
  f.beside = bits[p.at(p.i, p.left())];
}
KS_DEVICE void with_tape(Field& f, const Pixel& p, const Word* tape) {
  const int words = words_of(p.cols);
  const Word* step = tape + (long long)blockIdx.z * p.rows * words;
  f.here = nibble(step + (long long)p.i * words, words, p.j);
  f.above = nibble(step + (long long)p.up() * words, words, p.j);
  f.beside = nibble(step + (long long)p.i * words, words, p.left());
}

KS_KERNEL reflect(Complex* out, const Complex* w, Real t, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  out[p.at()] = begin(Update{t, 0}, field_at(p, w));
}

KS_KERNEL reflect_tangent(Complex* out, const Complex* dw, const unsigned char* bits, int rows,
                          int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  Field f = field_at(p, dw);
  with_bytes(f, p, bits);
  out[p.at()] = begin(UpdateTangent{0}, f);
}

KS_KERNEL shrink_update(Complex* out, const Complex* w, const Complex* x, Real t, Real relax,
                        int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  Complex d[2];
  grad_at(p, x, d);
  for (int c = 0; c < 2; ++c) out[p.field(c)] = Update{t, relax}.next(w[p.field(c)], d[c], 0);
}

KS_KERNEL shrink_update_tangent(Complex* out, const Complex* dw, const Complex* dx,
                                const unsigned char* bits, Real relax, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  Complex d[2];
  grad_at(p, dx, d);
  for (int c = 0; c < 2; ++c) {
    out[p.field(c)] = UpdateTangent{relax}.next(dw[p.field(c)], d[c], bits[p.at()] >> 2 * c);
  }
}

KS_KERNEL shrink_update_adjoint(Complex* out, const Complex* g, const Complex* r,
                                const unsigned char* bits, Real relax, Real rho, int rows,
                                int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  Complex d[2];
  grad_at(p, r, d);
  for (int c = 0; c < 2; ++c) {
    out[p.field(c)] = UpdateAdjoint{relax, rho}.next(g[p.field(c)], d[c], bits[p.at()] >> 2 * c);
  }
}

// --- the passes of any size: x from f, w_next = next(w, D x), g = D* emit(w_next); g and x may be
// null ----------------

template <class U>
KS_DEVICE void sweep_pixel(const U& u, const Pixel& p, Field field, Complex* g, Complex* w_next,
                           Complex* x, const Complex* f) {
  const Image image = {f[p.at()], f[p.at(p.down(), p.j)], f[p.at(p.i, p.right())],
                       f[p.at(p.up(), p.j)], f[p.at(p.i, p.left())]};
  const Complex right_hand_side = sweep(u, field, image);
  w_next[p.field(0)] = field.w0;
  w_next[p.field(1)] = field.w1;
  if (g) g[p.at()] = right_hand_side;
  if (x) x[p.at()] = image.here;
}

KS_KERNEL update(Complex* g, Complex* w_next, Complex* x, const Complex* f, const Complex* w,
                 Real t, Real relax, const int* count, int step, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside || !runs(count, int(blockIdx.z), step)) return;
  sweep_pixel(Update{t, relax}, p, field_at(p, w), g, w_next, x, f);
}

KS_KERNEL update_tangent(Complex* g, Complex* w_next, Complex* x, const Complex* f,
                         const Complex* w, const Word* tape, Real relax, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  Field field = field_at(p, w);
  with_tape(field, p, tape);
  sweep_pixel(UpdateTangent{relax}, p, field, g, w_next, x, f);
}

KS_KERNEL update_adjoint(Complex* g, Complex* w_next, Complex* x, const Complex* f,
                         const Complex* w, const Word* tape, Real relax, Real rho, const int* count,
                         int step, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside || !runs(count, int(blockIdx.z), step)) return;
  Field field = field_at(p, w);
  with_tape(field, p, tape);
  sweep_pixel(UpdateAdjoint{relax, rho}, p, field, g, w_next, x, f);
}

KS_KERNEL begin_tangent(Complex* g, const Complex* w, const Word* tape, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  Field f = field_at(p, w);
  with_tape(f, p, tape);
  g[p.at()] = begin(UpdateTangent{0}, f);
}

// tape <- support(w, t): one thread a word, at (row, word) = (i, j).
KS_KERNEL record(Word* tape, const Complex* w, Real t, int rows, int cols) {
  const Pixel p(rows, cols);
  const int words = words_of(cols);
  if (p.i >= rows || p.j >= words) return;
  Word word = 0;
  for (int k = 0, j = p.j; j < cols; ++k, j += words) {
    word |= Update{t, 0}.bits(w[p.field(0, p.i, j)], w[p.field(1, p.i, j)]) << 4 * k;
  }
  tape[((long long)blockIdx.z * rows + p.i) * words + p.j] = word;
}
