// SPDX-License-Identifier: MIT
// The first of the two passes over memory of one iteration: along columns, of length KS_N = rows.
// Threads (KS_COLS, KS_T), grid (cols / KS_COLS, batch): a block takes KS_COLS neighbouring
// columns, so that they are read in whole sectors.
#include "fft.cu"
#include "kspace.hpp"

#define KS_BOUNDS __launch_bounds__(KS_COLS* KS_T, KS_BLOCKS)

// The column of this thread.
struct Column {
  int t, col, cols;
  long long image;
  __device__ explicit Column(int cols_) : cols(cols_) {
    t = threadIdx.y;
    col = blockIdx.x * blockDim.x + threadIdx.x;
    image = (long long)blockIdx.y * KS_N * cols;
  }
  __device__ int row(int i) const { return t + i * KS_T; }
  __device__ int in_plane(int i) const { return row(i) * cols + col; }
  __device__ long long at(int i) const { return image + in_plane(i); }
};

// Plain transforms of columns. out may be x.
template <int Direction>
KS_DEVICE void cols_fft(Complex* out, const Complex* x, const Complex* twiddle, int cols) {
  KS_SHARED(Complex, shared);
  const Column c(cols);
  Complex v[KS_PER];
#pragma unroll
  for (int i = 0; i < KS_PER; ++i) v[i] = x[c.at(i)];
  fft<Direction>(v, shared + threadIdx.x * KS_LINE, twiddle, c.t);
#pragma unroll
  for (int i = 0; i < KS_PER; ++i) out[c.at(i)] = v[i];
}

KS_KERNEL KS_BOUNDS cols_forward(Complex* out, const Complex* x, const Complex* twiddle, int cols) {
  cols_fft<Forward>(out, x, twiddle, cols);
}
KS_KERNEL KS_BOUNDS cols_inverse(Complex* out, const Complex* x, const Complex* twiddle, int cols) {
  cols_fft<Inverse>(out, x, twiddle, cols);
}

// The pass over columns: f <- column IFFT of x^ of the column FFT of g, see Resolvent.
KS_KERNEL KS_BOUNDS cols_resolvent(Complex* __restrict__ f, const Complex* __restrict__ g,
                                   KS_RESOLVENT_PARAMETERS, const Complex* twiddle,
                                   const int* count, int step, int cols) {
  if (!runs(count, int(blockIdx.y), step)) return;
  KS_SHARED(Complex, shared);
  Complex* line = shared + threadIdx.x * KS_LINE;
  const Column c(cols);
  int t = c.t;
  const Resolvent solve = KS_RESOLVENT;
  Complex v[KS_PER];
#pragma unroll
  for (int i = 0; i < KS_PER; ++i) v[i] = g[c.at(i)];
  fft<Forward>(v, line, twiddle, c.t);
#pragma unroll
  for (int i = 0; i < KS_PER; ++i) v[i] = solve(v[i], c.row(i), c.col, c.image, c.in_plane(i));
  KS_FRESH(t);
  fft<Inverse>(v, line, twiddle, t);
#pragma unroll
  for (int i = 0; i < KS_PER; ++i) f[c.at(i)] = v[i];
}
