// SPDX-License-Identifier: MIT
// Plain transforms of rows, of length KS_N: `lines` of them in all. Threads (KS_T, KS_LINES), grid
// (lines / KS_LINES).
#include "fft.cu"

#define KS_BOUNDS __launch_bounds__(KS_T* KS_LINES, KS_BLOCKS)

// out may be x.
template <int Direction>
KS_DEVICE void lines_fft(Complex* out, const Complex* x, const Complex* twiddle, int lines) {
  KS_SHARED(Complex, shared);
  const int t = threadIdx.x, line = blockIdx.x * KS_LINES + threadIdx.y;
  const bool active = line < lines;
  const long long base = (long long)line * KS_N + t;
  Complex v[KS_PER] = {};
  if (active) {
#pragma unroll
    for (int i = 0; i < KS_PER; ++i) v[i] = x[base + i * KS_T];
  }
  fft<Direction>(v, shared + threadIdx.y * KS_LINE, twiddle, t, active);
  if (active) {
#pragma unroll
    for (int i = 0; i < KS_PER; ++i) out[base + i * KS_T] = v[i];
  }
}

KS_KERNEL KS_BOUNDS lines_forward(Complex* out, const Complex* x, const Complex* twiddle,
                                  int lines) {
  lines_fft<Forward>(out, x, twiddle, lines);
}
KS_KERNEL KS_BOUNDS lines_inverse(Complex* out, const Complex* x, const Complex* twiddle,
                                  int lines) {
  lines_fft<Inverse>(out, x, twiddle, lines);
}
