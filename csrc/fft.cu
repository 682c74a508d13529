// SPDX-License-Identifier: MIT
// Unscaled transforms of length KS_N, a power of two from 64 to 4096, along rows or columns:
// Stockham passes of radix 8 through shared memory, natural order in and out. KS_PER elements a
// thread: element t + i KS_T of the line is v[i] of thread t. KS_LINE is the room that one line
// takes in shared memory.
#include "device.hpp"

#define KS_T (KS_N / KS_PER)
constexpr int Forward = 1, Inverse = -1;

// One element of padding after 16 keeps the stride-8 writes of the first pass off each other's
// banks.
KS_DEVICE constexpr int at(int i) { return i + (i >> 4); }
// at(t + i KS_T) for -1 <= t <= KS_T; where KS_T allows, one address and a constant.
KS_DEVICE int at(int t, int i) { return KS_T % 16 ? at(t + i * KS_T) : at(t) + i * at(KS_T); }

// Hides from the compiler what it knows of an integer: else it keeps the addresses of one transform
// in registers for the next, and at 4096 runs out of them.
#ifndef KS_FRESH
#define KS_FRESH(integer) asm volatile("" : "+r"(integer))
#endif

template <int Direction>
KS_DEVICE Complex turn(Complex a) {  // times -i forward, +i inverse
  return Direction == Forward ? make(a.y, -a.x) : make(-a.y, a.x);
}

// DFT of R numbers in place, `S` apart, natural order.
template <int Direction, int R, int S>
KS_DEVICE void butterfly(Complex* v) {
  if constexpr (R == 2) {
    const Complex a = v[0], b = v[S];
    v[0] = a + b;
    v[S] = a - b;
  } else if constexpr (R == 4) {
    const Complex a = v[0] + v[2 * S], b = v[0] - v[2 * S], c = v[S] + v[3 * S];
    const Complex d = turn<Direction>(v[S] - v[3 * S]);
    v[0] = a + c;
    v[S] = b + d;
    v[2 * S] = a - c;
    v[3 * S] = b - d;
  } else {
    butterfly<Direction, 4, 2 * S>(v);
    butterfly<Direction, 4, 2 * S>(v + S);
    const Real h = Real(0.70710678118654752440);
    const Complex e0 = v[0], e1 = v[2 * S], e2 = v[4 * S], e3 = v[6 * S];
    const Complex o0 = v[S], o1 = v[3 * S], o2 = turn<Direction>(v[5 * S]), o3 = v[7 * S];
    const Complex p1 = h * (o1 + turn<Direction>(o1)), p3 = h * (turn<Direction>(o3) - o3);
    v[0] = e0 + o0;
    v[S] = e1 + p1;
    v[2 * S] = e2 + o2;
    v[3 * S] = e3 + p3;
    v[4 * S] = e0 - o0;
    v[5 * S] = e1 - p1;
    v[6 * S] = e2 - o2;
    v[7 * S] = e3 - p3;
  }
}

// v[r S] times w^r for r < R, with w the k-th power of the first root of unity. Three roots are
// loaded, the others are products of them.
template <int Direction, int R, int S>
KS_DEVICE void twist(Complex* v, const Complex* twiddle, int k) {
  const auto root = [&](int r) {
    const Complex w = __ldg(twiddle + k * r);
    return Direction == Forward ? w : conj(w);
  };
  const Complex w1 = root(1);
  v[S] = v[S] * w1;
  if constexpr (R > 2) {
    const Complex w2 = root(2), w3 = w1 * w2;
    v[2 * S] = v[2 * S] * w2;
    v[3 * S] = v[3 * S] * w3;
    if constexpr (R > 4) {
      const Complex w4 = root(4);
      v[4 * S] = v[4 * S] * w4;
      v[5 * S] = v[5 * S] * (w1 * w4);
      v[6 * S] = v[6 * S] * (w2 * w4);
      v[7 * S] = v[7 * S] * (w3 * w4);
    }
  }
}

// The passes that remain when `Done` is the product of the radices so far: twiddle, butterfly,
// exchange. Every thread of the block takes part in the barriers; lines that are not `active` do
// nothing else.
template <int Direction, int Done = 1>
KS_DEVICE void fft(Complex* v, Complex* line, const Complex* twiddle, int t, bool active = true) {
  if constexpr (Done < KS_N) {
    constexpr int R = KS_N / Done >= 8 ? 8 : KS_N / Done, B = KS_PER / R;
    if (active) {
#pragma unroll
      for (int b = 0; b < B; ++b) {
        if constexpr (Done > 1) {
          twist<Direction, R, B>(v + b, twiddle, (t + b * KS_T) % Done * (KS_N / (Done * R)));
        }
        butterfly<Direction, R, B>(v + b);
      }
    }
    if constexpr (Done * R < KS_N) {
      __syncthreads();
      if (active) {
#pragma unroll
        for (int b = 0; b < B; ++b) {
          const int j = t + b * KS_T, first = j / Done * Done * R + j % Done;
#pragma unroll
          for (int r = 0; r < R; ++r)
            line[at(first) + at(r * Done)] = v[b + r * B];  // no carry into the padding
        }
      }
      __syncthreads();
      if (active) {
#pragma unroll
        for (int i = 0; i < KS_PER; ++i) v[i] = line[at(t, i)];
      }
    }
    fft<Direction, Done * R>(v, line, twiddle, t, active);
  }
}
