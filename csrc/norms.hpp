// SPDX-License-Identifier: MIT
// The stencils of the row pass: what happens to the four parts of a gradient pixel, W pixels at a
// time, for each norm of D x. Stencils turn `step`, relax D x, into f, which D* takes on to the
// next right-hand side, and update the state where their argument `kStore` is set. A family of them
// says what one step of the tape holds of W pixels: kRecords items of type Record. Meaning:
// kspike/reference.py.
#pragma once

#include "passes.hpp"

namespace kspike {

enum class Norm { kSeparable, kModulus, kIsotropic };

// Each part alone; the support is four bits a pixel.
template <class T, int W>
struct Separable {
  using S = Simd<T, W>;
  using V = typename S::V;
  using Record = typename S::Bits4;
  static constexpr size_t kRecords = 1;
  static constexpr size_t kAhead = 8;  // pixels from the one at work to the one that is fetched

  // |w| > t.
  static KSPIKE_INLINE void record(const T* w, V t, Record* tape) {
    uint64_t bits = 0;
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      const V v = S::load(w + p * W);
      bits |= uint64_t{S::differ(clip(v, t), v)} << (p * W);
    }
    *tape = static_cast<Record>(bits);
  }
  static KSPIKE_INLINE void fetch(const T* w) {
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) __builtin_prefetch(w + (4 * kAhead + p) * W);
  }

  // f = w - 2 clip(w), with the state as it is.
  struct Reflect {
    const T* w;
    V t;
    template <bool kStore>
    KSPIKE_INLINE void run(size_t at, const V*, V* f) const {
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) f[p] = reflect(S::load(w + (4 * at + p) * W), t);
    }
  };

  // w <- w + relax (D x - shrink(w)), f = w - 2 clip(w); the support of the old w goes to the tape.
  template <bool kTape>
  struct Update {
    T* w;
    V t, relax;
    Record* tape;
    template <bool kStore>
    KSPIKE_INLINE void run(size_t at, const V* step, V* f) const {
      fetch(w + 4 * at * W);
      if constexpr (kTape && kStore) record(w + 4 * at * W, t, tape + at);
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) {
        const V next = shrink_step(S::load(w + (4 * at + p) * W), step[p], t, relax);
        f[p] = reflect(next, t);
        if constexpr (kStore) S::store(w + (4 * at + p) * W, next);
      }
    }
  };

  // f = (2 S - 1) dw, with the tangent state as it is.
  struct ReflectTangent {
    const T* dw;
    const Record* tape;
    template <bool kStore>
    KSPIKE_INLINE void run(size_t at, const V*, V* f) const {
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p)
        f[p] = reflect_tangent(S::load(dw + (4 * at + p) * W), S::part(tape[at], p));
    }
  };

  // dw <- dw + relax (D dx - S dw), f = (2 S - 1) dw.
  struct UpdateTangent {
    T* dw;
    V relax;
    const Record* tape;
    template <bool kStore>
    KSPIKE_INLINE void run(size_t at, const V* step, V* f) const {
      fetch(dw + 4 * at * W);
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) {
        const auto on = S::part(tape[at], p);
        const V next = shrink_step_tangent(S::load(dw + (4 * at + p) * W), step[p], on, relax);
        f[p] = reflect_tangent(next, on);
        if constexpr (kStore) S::store(dw + (4 * at + p) * W, next);
      }
    }
  };

  // g <- g - relax S g + (2 S - 1) step, f = g; here step = rho D r.
  struct UpdateAdjoint {
    T* g;
    V relax;
    const Record* tape;
    template <bool kStore>
    KSPIKE_INLINE void run(size_t at, const V* step, V* f) const {
      fetch(g + 4 * at * W);
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) {
        f[p] = shrink_step_adjoint(S::load(g + (4 * at + p) * W), step[p], S::part(tape[at], p),
                                   relax);
        if constexpr (kStore) S::store(g + (4 * at + p) * W, f[p]);
      }
    }
  };
};

// K parts together, 2 for the modulus of a component and 4 for the length of the pixel's gradient.
// Their support is the field s = shrink(w) / |w|, four vectors a pixel.
template <class T, int W, int K>
struct Joint {
  using S = Simd<T, W>;
  using V = typename S::V;
  using Record = T;
  static constexpr size_t kRecords = 4 * W;

  // 1 / sqrt(v) for v > 0, to an ulp or two; whatever it is at zero, nobody takes it.
  static KSPIKE_INLINE V inverse_root(V v) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64 && sizeof(T) == 4) {
      const V guess = (V)_mm512_maskz_rsqrt14_ps(0xffff, (__m512)v);
      return guess * (T(1.5) - T(0.5) * v * guess * guess);
    }
    if constexpr (sizeof(V) == 64 && sizeof(T) == 8)
      return 1 / (V)_mm512_maskz_sqrt_pd(0xff, (__m512d)v);
#elif defined(__AVX2__)
    if constexpr (sizeof(V) == 32 && sizeof(T) == 4) return 1 / (V)_mm256_sqrt_ps((__m256)v);
    if constexpr (sizeof(V) == 32 && sizeof(T) == 8) return 1 / (V)_mm256_sqrt_pd((__m256d)v);
#endif
    V root;
    for (int l = 0; l < W; ++l) root[l] = std::sqrt(v[l]);
    return 1 / root;
  }
  static KSPIKE_INLINE void load(const T* p, V* v) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) v[i] = S::load_unaligned(p + i * W);
  }
  static KSPIKE_INLINE void store(T* p, const V* v) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) S::store_unaligned(p + i * W, v[i]);
  }

  // The group that begins at v[i]: the inner product with another, and min(1, t / |v|).
  static KSPIKE_INLINE V inner(const V* a, const V* b, int i) {
    V sum = a[i] * b[i];
#pragma GCC unroll 4
    for (int p = 1; p < K; ++p) sum += a[i + p] * b[i + p];
    return sum;
  }
  static KSPIKE_INLINE V ball(const V* v, V t, int i) {
    const V squared = inner(v, v, i);
    return joint_ball(squared, inverse_root(squared), t);
  }

  // f = w - 2 clip(w).
  static KSPIKE_INLINE void reflect(const V* w, V t, V* f) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i += K) {
      const V factor = 1 - 2 * ball(w, t, i);
#pragma GCC unroll 4
      for (int p = i; p < i + K; ++p) f[p] = factor * w[p];
    }
  }

  static KSPIKE_INLINE void record(const T* w, V t, T* tape) {
    V v[4], s[4];
    load(w, v);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i += K) {
      const V squared = inner(v, v, i);
      const V factor = joint_support(squared, inverse_root(squared), t);
#pragma GCC unroll 4
      for (int p = i; p < i + K; ++p) s[p] = factor * v[p];
    }
    store(tape, s);
  }

  // The symmetric matrix S of a pixel from its support: S v = length v + weight <s, v> s, group by
  // group.
  struct Slope {
    V s[4], length[4 / K], weight[4 / K];
    KSPIKE_INLINE explicit Slope(const T* tape) {
      load(tape, s);
#pragma GCC unroll 4
      for (int i = 0; i < 4; i += K) {
        const V squared = inner(s, s, i), inverse = inverse_root(squared);
        length[i / K] = joint_length(squared, inverse);
        weight[i / K] = joint_weight(squared, inverse);
      }
    }
    KSPIKE_INLINE void operator()(const V* v, V* out) const {
#pragma GCC unroll 4
      for (int i = 0; i < 4; i += K) {
        const V along = weight[i / K] * inner(s, v, i);
#pragma GCC unroll 4
        for (int p = i; p < i + K; ++p) out[p] = length[i / K] * v[p] + along * s[p];
      }
    }
  };

  struct Reflect {
    const T* w;
    V t;
    template <bool kStore>
    KSPIKE_INLINE void run(size_t at, const V*, V* f) const {
      V v[4];
      load(w + 4 * at * W, v);
      reflect(v, t, f);
    }
  };

  // w <- w + relax (D x - shrink(w)), f = w - 2 clip(w); the support of the old w goes to the tape.
  template <bool kTape>
  struct Update {
    T* w;
    V t, relax;
    T* tape;
    template <bool kStore>
    KSPIKE_INLINE void run(size_t at, const V* step, V* f) const {
      if constexpr (kTape && kStore) record(w + 4 * at * W, t, tape + kRecords * at);
      V v[4];
      load(w + 4 * at * W, v);
#pragma GCC unroll 4
      for (int i = 0; i < 4; i += K) {
        const V kept = 1 - relax + relax * ball(v, t, i);
#pragma GCC unroll 4
        for (int p = i; p < i + K; ++p) v[p] = kept * v[p] + step[p];
      }
      reflect(v, t, f);
      if constexpr (kStore) store(w + 4 * at * W, v);
    }
  };

  // f = (2 S - 1) dw, with the tangent state as it is.
  struct ReflectTangent {
    const T* dw;
    const T* tape;
    template <bool kStore>
    KSPIKE_INLINE void run(size_t at, const V*, V* f) const {
      V v[4];
      load(dw + 4 * at * W, v);
      Slope(tape + kRecords * at)(v, f);
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) f[p] += f[p] - v[p];
    }
  };

  // dw <- dw + relax (D dx - S dw), f = (2 S - 1) dw.
  struct UpdateTangent {
    T* dw;
    V relax;
    const T* tape;
    template <bool kStore>
    KSPIKE_INLINE void run(size_t at, const V* step, V* f) const {
      const Slope slope(tape + kRecords * at);
      V v[4], sv[4];
      load(dw + 4 * at * W, v);
      slope(v, sv);
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) v[p] += step[p] - relax * sv[p];
      slope(v, f);
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) f[p] += f[p] - v[p];
      if constexpr (kStore) store(dw + 4 * at * W, v);
    }
  };

  // g <- g - relax S g + (2 S - 1) step, f = g; here step = rho D r.
  struct UpdateAdjoint {
    T* g;
    V relax;
    const T* tape;
    template <bool kStore>
    KSPIKE_INLINE void run(size_t at, const V* step, V* f) const {
      const Slope slope(tape + kRecords * at);
      V v[4], mixed[4];
      load(g + 4 * at * W, v);
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) mixed[p] = 2 * step[p] - relax * v[p];
      slope(mixed, f);
#pragma GCC unroll 4
      for (int p = 0; p < 4; ++p) f[p] += v[p] - step[p];
      if constexpr (kStore) store(g + 4 * at * W, f);
    }
  };
};

}  // namespace kspike
