// SPDX-License-Identifier: MIT
// What the CUDA sources share: the value types, complex arithmetic, dynamic shared memory, the bits
// of the tape. No host code and no headers of CUDA or of the standard library: NVRTC compiles this
// as it stands.
#pragma once
#include "scalar.hpp"

#define KS_DEVICE __device__ __forceinline__
#define KS_KERNEL extern "C" __global__ void
#ifndef KS_SHARED  // `name`: the dynamic shared memory of the block, as an array of `type`
extern __shared__ double2 ks_shared[];
#define KS_SHARED(type, name) type* name = reinterpret_cast<type*>(ks_shared)
#endif

#if KS_DOUBLE
using Real = double;
using Complex = double2;
#else
using Real = float;
using Complex = float2;
#endif
using Word = unsigned;

KS_DEVICE Complex make(Real re, Real im) {
  Complex z;
  z.x = re;
  z.y = im;
  return z;
}
KS_DEVICE Complex operator+(Complex a, Complex b) { return make(a.x + b.x, a.y + b.y); }
KS_DEVICE Complex operator-(Complex a, Complex b) { return make(a.x - b.x, a.y - b.y); }
KS_DEVICE Complex operator*(Complex a, Complex b) {
  return make(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}
KS_DEVICE Complex operator*(Real s, Complex a) { return make(s * a.x, s * a.y); }
KS_DEVICE Complex conj(Complex a) { return make(a.x, -a.y); }

// f of the real parts and of the imaginary parts: all of image space is separable.
template <class F>
KS_DEVICE Complex parts(F f, Complex a) {
  return make(f(a.x), f(a.y));
}
template <class F>
KS_DEVICE Complex parts(F f, Complex a, Complex b) {
  return make(f(a.x, b.x), f(a.y, b.y));
}
// The same with one bit for each part: bit 0 of s for the real one, bit 1 for the imaginary one.
template <class F>
KS_DEVICE Complex parts_on(F f, Complex a, Word s) {
  return make(f(a.x, (s & 1) != 0), f(a.y, (s & 2) != 0));
}
template <class F>
KS_DEVICE Complex parts_on(F f, Complex a, Complex b, Word s) {
  return make(f(a.x, b.x, (s & 1) != 0), f(a.y, b.y, (s & 2) != 0));
}

KS_DEVICE Word support(Complex w, Real t) {
  return Word(kspike::support(w.x, t)) | Word(kspike::support(w.y, t)) << 1;
}

// One row of one step of the tape: W = ceil(cols / 8) words; pixel j is nibble j / W of word j % W,
// so that a thread which owns the pixels j, j + W, j + 2 W ... owns one whole word.
KS_DEVICE int words_of(int cols) { return (cols + 7) / 8; }
KS_DEVICE Word nibble(const Word* row, int words, int j) {
  return row[j % words] >> 4 * (j / words) & 15;
}

// Image `image` takes part in step `step` of a sweep: count holds how many steps each image runs;
// null means all.
KS_DEVICE bool runs(const int* count, int image, int step) { return !count || step < count[image]; }
