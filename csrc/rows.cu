// SPDX-License-Identifier: MIT
// The second of the two passes over memory of one iteration: along rows, of length KS_N = cols. It
// finds x, advances the field and transforms the next right-hand side.
#include "fft.cu"
#include "update.hpp"

#define KS_BOUNDS __launch_bounds__(KS_T*(KS_ROWS + 2), KS_BLOCKS)

// The row of this thread. Threads (KS_T, KS_ROWS + 2), grid (rows / KS_ROWS, batch): a block owns
// KS_ROWS rows, and has one more above and one below, of which only x is needed.
struct Row {
  int t, y, up, rows;
  bool own;
  __device__ explicit Row(int rows_) : rows(rows_) {
    t = threadIdx.x;
    const int first = blockIdx.x * KS_ROWS, r = threadIdx.y;
    own = r >= 1 && r <= KS_ROWS && first + r - 1 < rows;
    y = (first + r - 1 + rows) % rows;
    up = y == 0 ? rows - 1 : y - 1;
  }
  // Where row `row` of this thread's image begins: in images, in channel c of fields (both plus t),
  // in tapes.
  __device__ long long image(int row) const {
    return ((long long)blockIdx.y * rows + row) * KS_N + t;
  }
  __device__ long long field(int c, int row) const {
    return ((long long)(2 * blockIdx.y + c) * rows + row) * KS_N + t;
  }
  __device__ long long tape(int row) const {
    return ((long long)blockIdx.y * rows + row) * (KS_N / 8);
  }
};

// The words of the tape whose pixels this thread owns, of a row, or of the pixels on the left of
// those.
struct Words {
  static constexpr int W = KS_N / 8, B = KS_PER / 8;
  Word word[B] = {};
  __device__ void read(const Word* row, int t, bool left) {
#pragma unroll
    for (int b = 0; b < B; ++b) {
      const int q = t + b * KS_T;
      if (left && q == 0) {  // on the left of nibble k of word 0 is nibble k - 1 of the last word
        word[b] = row[W - 1] << 4 | row[W - 1] >> 28;
      } else {
        word[b] = row[left ? q - 1 : q];
      }
    }
  }
  __device__ Word nibble(int i) const { return word[i % B] >> 4 * (i / B) & 15; }
  __device__ void record(int i, Word bits) { word[i % B] |= bits << 4 * (i / B); }
  __device__ void write(Word* row, int t) const {
#pragma unroll
    for (int b = 0; b < B; ++b) row[t + b * KS_T] = word[b];
  }
};

// The field around the pixels of this thread: rows of w, and the bits that belong to them.
struct Around {
  const Complex *w0, *w1, *up;
  Words here, above, beside;
  bool first;
  __device__ Around(const Row& r, const Complex* w)
      : w0(w + r.field(0, r.y)),
        w1(w + r.field(1, r.y)),
        up(w + r.field(0, r.up)),
        first(r.t == 0) {}
  __device__ void read(const Row& r, const Word* tape) {
    here.read(tape + r.tape(r.y), r.t, false);
    above.read(tape + r.tape(r.up), r.t, false);
    beside.read(tape + r.tape(r.y), r.t, true);
  }
  __device__ Field operator[](int i) const {
    const int k = i * KS_T, left = i == 0 && first ? KS_N - 1 : k - 1;
    return {w0[k], w1[k], up[k], w1[left], here.nibble(i), above.nibble(i), beside.nibble(i)};
  }
};

constexpr int at_once = KS_AT_ONCE;

// v[i] = f(i), a few at once. Were it unrolled whole, the compiler would load what all i
// need at once and run out of registers; as it is not, v has to go through shared memory.
template <class F>
KS_DEVICE void each(Complex* v, Complex* spare, int t, F f) {
#pragma unroll at_once
  for (int i = 0; i < KS_PER; ++i) spare[at(t, i)] = f(i);
#pragma unroll
  for (int i = 0; i < KS_PER; ++i) v[i] = spare[at(t, i)];
}

// The pass over rows without its first half. g <- row FFT of D* emit(w).
template <class U>
KS_DEVICE void rows_begin(const U& u, Complex* __restrict__ g, const Complex* __restrict__ w,
                          const Word* __restrict__ tape, const Complex* twiddle, int rows) {
  KS_SHARED(Complex, shared);
  const Row r(rows);
  Complex* spare = shared + (KS_ROWS + 1 + threadIdx.y) * KS_LINE;
  Complex v[KS_PER] = {};
  if (r.own) {
    Around field(r, w);
    if constexpr (!U::records) field.read(r, tape);
    each(v, spare, r.t, [&](int i) { return begin(u, field[i]); });
  }
  fft<Forward>(v, shared + threadIdx.y * KS_LINE, twiddle, r.t, r.own);
  if (r.own) {
#pragma unroll
    for (int i = 0; i < KS_PER; ++i) g[r.image(r.y) + i * KS_T] = v[i];
  }
}

// The pass over rows. 1: x = row IFFT of f, in shared memory; x_out, if any, takes a copy. 2:
// w_next = next(w, D x), the right-hand side D* emit(w_next) gathered in registers; the tape is
// recorded or read. 3: g <- its row FFT, if g is given.
template <class U>
KS_DEVICE void rows_sweep(const U& u, Complex* g, Complex* w_next, Complex* x_out, const Complex* f,
                          const Complex* w, Word* record, const Word* tape, const Complex* twiddle,
                          int rows) {
  KS_SHARED(Complex, shared);
  const Row r(rows);
  Complex* spare = shared + (KS_ROWS + 1 + threadIdx.y) * KS_LINE;
  Complex* line = shared + threadIdx.y * KS_LINE;
  Complex v[KS_PER];
#pragma unroll
  for (int i = 0; i < KS_PER; ++i) v[i] = f[r.image(r.y) + i * KS_T];
  fft<Inverse>(v, line, twiddle, r.t);
  __syncthreads();
#pragma unroll
  for (int i = 0; i < KS_PER; ++i) line[at(r.t, i)] = v[i];
  __syncthreads();
  if (r.own) {
    Around field(r, w);
    if constexpr (!U::records) field.read(r, tape);
    each(v, spare, r.t, [&](int i) {
      const int left = i == 0 && r.t == 0 ? at(KS_N - 1) : at(r.t - 1, i);
      const int right = i == KS_PER - 1 && r.t == KS_T - 1 ? 0 : at(r.t + 1, i);
      const Complex* here = line + at(r.t, i);
      const Image x = {here[0], here[KS_LINE], line[right], here[-KS_LINE], line[left]};
      Field at_i = field[i];
      if constexpr (U::records) field.here.record(i, u.bits(at_i.w0, at_i.w1));
      const Complex right_hand_side = sweep(u, at_i, x);
      w_next[r.field(0, r.y) + i * KS_T] = at_i.w0;
      w_next[r.field(1, r.y) + i * KS_T] = at_i.w1;
      if (x_out) x_out[r.image(r.y) + i * KS_T] = x.here;
      return right_hand_side;
    });
    if constexpr (U::records) {
      if (record) field.here.write(record + r.tape(r.y), r.t);
    }
  }
  if (!g) return;
  fft<Forward>(v, line, twiddle, r.t, r.own);
  if (r.own) {
#pragma unroll
    for (int i = 0; i < KS_PER; ++i) g[r.image(r.y) + i * KS_T] = v[i];
  }
}

KS_KERNEL KS_BOUNDS rows_reflect(Complex* g, const Complex* w, Real t, const Complex* twiddle,
                                 int rows) {
  rows_begin(Update{t, 0}, g, w, nullptr, twiddle, rows);
}
KS_KERNEL KS_BOUNDS rows_reflect_tangent(Complex* g, const Complex* w, const Word* tape,
                                         const Complex* twiddle, int rows) {
  rows_begin(UpdateTangent{0}, g, w, tape, twiddle, rows);
}
KS_KERNEL KS_BOUNDS rows_update(Complex* g, Complex* w_next, Complex* x, const Complex* f,
                                const Complex* w, Word* tape, Real t, Real relax,
                                const Complex* twiddle, const int* count, int step, int rows) {
  if (!runs(count, int(blockIdx.y), step)) return;
  rows_sweep(Update{t, relax}, g, w_next, x, f, w, tape, nullptr, twiddle, rows);
}
KS_KERNEL KS_BOUNDS rows_update_tangent(Complex* g, Complex* w_next, Complex* x, const Complex* f,
                                        const Complex* w, const Word* tape, Real relax,
                                        const Complex* twiddle, int rows) {
  rows_sweep(UpdateTangent{relax}, g, w_next, x, f, w, nullptr, tape, twiddle, rows);
}
KS_KERNEL KS_BOUNDS rows_update_adjoint(Complex* g, Complex* w_next, Complex* x, const Complex* f,
                                        const Complex* w, const Word* tape, Real relax, Real rho,
                                        const Complex* twiddle, const int* count, int step,
                                        int rows) {
  if (!runs(count, int(blockIdx.y), step)) return;
  rows_sweep(UpdateAdjoint{relax, rho}, g, w_next, x, f, w, nullptr, tape, twiddle, rows);
}
