// SPDX-License-Identifier: MIT
// W discrete Fourier transforms side by side, of any length, in place.
//
// Element j of all W transforms is one pair of vectors at p + 2 W j: W real parts, then W imaginary
// parts. A transform of length n = R M is R-point butterflies over elements M apart, twiddles, and
// R transforms of length M on contiguous blocks (decimation in frequency), each done to its end
// before the next, so that all but the first stage run in the L1 cache. The result is left in the
// order this produces: position q holds frequency order()[q]. The inverse runs the same stages
// backwards and needs no reordering either, and whatever acts on single frequencies can be fused
// between the two last stages, in registers. Both directions are unnormalised. Lengths with a prime
// factor above kLargestRadix go through Bluestein's convolution and keep their natural order.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <numbers>
#include <vector>

#include "simd.hpp"

namespace kspike {

inline constexpr int kLargestRadix = 61;

template <class V>
struct Complex {
  V re, im;
};
template <class V>
KSPIKE_INLINE Complex<V> operator+(Complex<V> a, Complex<V> b) {
  return {a.re + b.re, a.im + b.im};
}
template <class V>
KSPIKE_INLINE Complex<V> operator-(Complex<V> a, Complex<V> b) {
  return {a.re - b.re, a.im - b.im};
}

// The sign of the exponent: exp(S 2 pi i jk / n).
enum Sign { kForward = -1, kInverse = 1 };

// S i a
template <int S, class V>
KSPIKE_INLINE Complex<V> times_i(Complex<V> a) {
  if constexpr (S > 0) return {-a.im, a.re};
  return {a.im, -a.re};
}
// a (c + S i s)
template <int S, class V, class C>
KSPIKE_INLINE Complex<V> rotate(Complex<V> a, C c, C s) {
  if constexpr (S > 0) return {a.re * c - a.im * s, a.im * c + a.re * s};
  return {a.re * c + a.im * s, a.im * c - a.re * s};
}

// (cos, sin) of 2 pi k / n, to the last digit: by symmetry, in whole numbers, from an angle of at
// most pi / 4.
inline Complex<double> root(int64_t k, int64_t n) noexcept {
  auto turn = [](auto& self, int64_t eighths, int64_t whole) -> Complex<double> {
    if (2 * eighths > whole) {
      const Complex<double> r = self(self, whole - eighths, whole);
      return {r.re, -r.im};
    }
    if (4 * eighths > whole) {
      const Complex<double> r = self(self, whole / 2 - eighths, whole);
      return {-r.re, r.im};
    }
    if (8 * eighths > whole) {
      const Complex<double> r = self(self, whole / 4 - eighths, whole);
      return {r.im, r.re};
    }
    const double angle =
        2 * std::numbers::pi * static_cast<double>(eighths) / static_cast<double>(whole);
    return {std::cos(angle), std::sin(angle)};
  };
  return turn(turn, 8 * (k % n), 8 * n);
}

template <int R, int S, class T, class V>
struct Butterfly;

template <int S, class T, class V>
struct Butterfly<1, S, T, V> {
  static KSPIKE_INLINE void run(Complex<V>*) {}
};

template <int S, class T, class V>
struct Butterfly<2, S, T, V> {
  static KSPIKE_INLINE void run(Complex<V>* x) {
    const Complex<V> a = x[0], b = x[1];
    x[0] = a + b;
    x[1] = a - b;
  }
};

template <int S, class T, class V>
struct Butterfly<4, S, T, V> {
  static KSPIKE_INLINE void run(Complex<V>& x0, Complex<V>& x1, Complex<V>& x2, Complex<V>& x3) {
    const Complex<V> a = x0 + x2, b = x0 - x2, c = x1 + x3, d = times_i<S>(x1 - x3);
    x0 = a + c;
    x1 = b + d;
    x2 = a - c;
    x3 = b - d;
  }
  static KSPIKE_INLINE void run(Complex<V>* x) { run(x[0], x[1], x[2], x[3]); }
};

template <int S, class T, class V>
struct Butterfly<8, S, T, V> {
  static KSPIKE_INLINE void run(Complex<V>* x) {
    using Four = Butterfly<4, S, T, V>;
    constexpr T h = T(0.5) * std::numbers::sqrt2_v<T>;
    Four::run(x[0], x[2], x[4], x[6]);
    Four::run(x[1], x[3], x[5], x[7]);
    const Complex<V> even1 = x[2], even2 = x[4], even3 = x[6];
    const Complex<V> i1 = times_i<S>(x[3]), i3 = times_i<S>(x[7]);
    const Complex<V> p = x[3] + i1,
                     q = i3 - x[7];  // h p = x[3] exp(S i pi/4), h q = x[7] exp(S 3 i pi/4)
    const Complex<V> even0 = x[0], odd0 = x[1], odd2 = times_i<S>(x[5]);
    x[0] = even0 + odd0;
    x[4] = even0 - odd0;
    x[2] = even2 + odd2;
    x[6] = even2 - odd2;
    x[1] = {even1.re + h * p.re, even1.im + h * p.im};
    x[5] = {even1.re - h * p.re, even1.im - h * p.im};
    x[3] = {even3.re + h * q.re, even3.im + h * q.im};
    x[7] = {even3.re - h * q.re, even3.im - h * q.im};
  }
};

template <int S, class T, class V>
struct Butterfly<16, S, T, V> {
  static KSPIKE_INLINE void run(Complex<V>* x) {
    using Four = Butterfly<4, S, T, V>;
    constexpr T h = T(0.5) * std::numbers::sqrt2_v<T>;
    constexpr T c = T(0.923879532511286756128L), s = T(0.382683432365089771728L);  // pi / 8
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) Four::run(x[j], x[j + 4], x[j + 8], x[j + 12]);
    x[5] = rotate<S>(x[5], c, s);
    x[6] = rotate<S>(x[6], h, h);
    x[7] = rotate<S>(x[7], s, c);
    x[9] = rotate<S>(x[9], h, h);
    x[10] = times_i<S>(x[10]);
    x[11] = rotate<S>(x[11], -h, h);
    x[13] = rotate<S>(x[13], s, c);
    x[14] = rotate<S>(x[14], -h, h);
    x[15] = rotate<S>(x[15], -c, -s);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) Four::run(x[4 * k], x[4 * k + 1], x[4 * k + 2], x[4 * k + 3]);
    // Output k1 + 4 k2 stands at 4 k1 + k2.
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
      for (int j = i + 1; j < 4; ++j) std::swap(x[4 * i + j], x[4 * j + i]);
  }
};

// Odd radices by the definition, with the conjugate pairs x[j] +- x[R - j] taken together.
template <int R, class T>
struct Roots {
  T c[R], s[R];
  Roots() noexcept {
    for (int k = 0; k < R; ++k) {
      c[k] = static_cast<T>(root(k, R).re);
      s[k] = static_cast<T>(root(k, R).im);
    }
  }
};
template <int R, class T>
inline const Roots<R, T> kRoots;

template <int R, int S, class T, class V>
struct Butterfly {
  static_assert(R % 2 == 1);
  static KSPIKE_INLINE void run(Complex<V>* x) {
    constexpr int half = (R - 1) / 2;
    Complex<V> sum[half + 1], difference[half + 1];
    const Complex<V> first = x[0];
#pragma GCC unroll 8
    for (int j = 1; j <= half; ++j) {
      sum[j] = x[j] + x[R - j];
      difference[j] = times_i<S>(x[j] - x[R - j]);
      x[0] = x[0] + sum[j];
    }
#pragma GCC unroll 8
    for (int k = 1; k <= half; ++k) {
      Complex<V> even = first, odd = {V{}, V{}};
#pragma GCC unroll 8
      for (int j = 1; j <= half; ++j) {
        const T c = kRoots<R, T>.c[j * k % R], s = kRoots<R, T>.s[j * k % R];
        even = {even.re + c * sum[j].re, even.im + c * sum[j].im};
        odd = {odd.re + s * difference[j].re, odd.im + s * difference[j].im};
      }
      x[k] = even + odd;
      x[R - k] = even - odd;
    }
  }
};

// The same for a radix that is only known at run time: kShare pairs of outputs share what they
// load, as many as there are registers for their 4 kShare sums. `roots` holds, in the order of use,
// the kShare cosines and kShare sines of each j.
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int kShare = 4;
#else
inline constexpr int kShare = 3;
#endif
template <class T>
std::vector<T> odd_roots(int R) {
  const int half = (R - 1) / 2;
  std::vector<T> roots;
  for (int k = 1; k <= half; k += kShare)
    for (int j = 1; j <= half; ++j)
      for (int part = 0; part < 2; ++part)
        for (int q = 0; q < kShare; ++q) {
          const Complex<double> w = root(int64_t{j} * (k + q), R);
          roots.push_back(static_cast<T>(part ? w.im : w.re));
        }
  return roots;
}
// From load(k) to store(k, v): through an array of x in between it would take half as long again.
template <int S, class V, class T, class Load, class Store>
KSPIKE_INLINE void odd_butterfly(int R, const T* roots, const Load& load, const Store& store) {
  const int half = (R - 1) / 2;
  Complex<V> sum[kLargestRadix / 2 + 1], difference[kLargestRadix / 2 + 1];
  const Complex<V> first = load(0);
  Complex<V> total = first;
  for (int j = 1; j <= half; ++j) {
    const Complex<V> a = load(j), b = load(R - j);
    sum[j] = a + b;
    difference[j] = times_i<S>(a - b);
    total = total + sum[j];
  }
  store(0, total);
  for (int k = 1; k <= half; k += kShare) {
    V even_re[kShare], even_im[kShare], odd_re[kShare] = {}, odd_im[kShare] = {};
#pragma GCC unroll 4
    for (int q = 0; q < kShare; ++q) {
      even_re[q] = first.re;
      even_im[q] = first.im;
    }
    for (int j = 1; j <= half; ++j, roots += 2 * kShare) {
      const Complex<V> a = sum[j], b = difference[j];
#pragma GCC unroll 4
      for (int q = 0; q < kShare; ++q) {
        even_re[q] += roots[q] * a.re;
        even_im[q] += roots[q] * a.im;
        odd_re[q] += roots[q + kShare] * b.re;
        odd_im[q] += roots[q + kShare] * b.im;
      }
    }
#pragma GCC unroll 4
    for (int q = 0; q < kShare; ++q) {
      if (k + q > half) break;
      const Complex<V> even = {even_re[q], even_im[q]}, odd = {odd_re[q], odd_im[q]};
      store(k + q, even + odd);
      store(R - k - q, even - odd);
    }
  }
}

template <int S, class T, class V>
struct Butterfly<3, S, T, V> {
  static KSPIKE_INLINE void run(Complex<V>* x) {
    constexpr T half = T(0.5), s = T(0.866025403784438646764L);
    const Complex<V> sum = x[1] + x[2], d = times_i<S>(x[1] - x[2]);
    const Complex<V> even = {x[0].re - half * sum.re, x[0].im - half * sum.im};
    x[0] = x[0] + sum;
    x[1] = {even.re + s * d.re, even.im + s * d.im};
    x[2] = {even.re - s * d.re, even.im - s * d.im};
  }
};
template <int S, class T, class V>
struct Butterfly<5, S, T, V> {
  static KSPIKE_INLINE void run(Complex<V>* x) {
    constexpr T c1 = T(0.309016994374947424102L), s1 = T(0.951056516295153572116L);
    constexpr T c2 = T(-0.809016994374947424102L), s2 = T(0.587785252292473129169L);
    const Complex<V> a = x[1] + x[4], b = x[2] + x[3];
    const Complex<V> d = times_i<S>(x[1] - x[4]), e = times_i<S>(x[2] - x[3]);
    const Complex<V> p = {x[0].re + c1 * a.re + c2 * b.re, x[0].im + c1 * a.im + c2 * b.im};
    const Complex<V> q = {x[0].re + c2 * a.re + c1 * b.re, x[0].im + c2 * a.im + c1 * b.im};
    const Complex<V> u = {s1 * d.re + s2 * e.re, s1 * d.im + s2 * e.im};
    const Complex<V> v = {s2 * d.re - s1 * e.re, s2 * d.im - s1 * e.im};
    x[0] = x[0] + a + b;
    x[1] = p + u;
    x[4] = p - u;
    x[2] = q + v;
    x[3] = q - v;
  }
};

// A transform of A B points, A and B without common factor: input (B a + A b) mod A B, output k
// with k mod A and k mod B, and no twiddles between them.
template <int A, int B, int S, class T, class V>
struct Coprime {
  static KSPIKE_INLINE void run(Complex<V>* x) {
    constexpr int R = A * B;
    Complex<V> rows[A][B];
#pragma GCC unroll 16
    for (int b = 0; b < B; ++b) {
      Complex<V> column[A];
#pragma GCC unroll 16
      for (int a = 0; a < A; ++a) column[a] = x[(B * a + A * b) % R];
      Butterfly<A, S, T, V>::run(column);
#pragma GCC unroll 16
      for (int a = 0; a < A; ++a) rows[a][b] = column[a];
    }
#pragma GCC unroll 16
    for (int a = 0; a < A; ++a) {
      Butterfly<B, S, T, V>::run(rows[a]);
#pragma GCC unroll 16
      for (int b = 0; b < B; ++b) x[output(a, b)] = rows[a][b];
    }
  }
  static constexpr int output(int a, int b) {
    int k = a;
    while (k % B != b) k += A;
    return k;
  }
};
template <int S, class T, class V>
struct Butterfly<6, S, T, V> : Coprime<2, 3, S, T, V> {};
template <int S, class T, class V>
struct Butterfly<10, S, T, V> : Coprime<2, 5, S, T, V> {};
template <int S, class T, class V>
struct Butterfly<12, S, T, V> : Coprime<4, 3, S, T, V> {};
template <int S, class T, class V>
struct Butterfly<15, S, T, V> : Coprime<3, 5, S, T, V> {};

template <class T, int W>
class Fft {
 public:
  using S = Simd<T, W>;
  using V = typename S::V;
  using Element = Complex<V>;
  static constexpr int kElement = 2 * W;  // numbers from one element to the next

  explicit Fft(int n) : n_(n) {
    std::vector<int> radices = factor(n);
    if (radices.empty()) {
      plan_bluestein();
      return;
    }
    for (int length = n; int R : radices) {
      Stage stage{R, length / R, {}, {}};
      for (int j = 0; j < stage.M; ++j)
        for (int k = 1; k < R; ++k) {
          const Complex<double> w = root(int64_t{j} * k, length);
          stage.twiddles.push_back(static_cast<T>(w.re));
          stage.twiddles.push_back(static_cast<T>(w.im));
        }
      if (R > 16) stage.roots = odd_roots<T>(R);
      length = stage.M;
      stages_.push_back(std::move(stage));
    }
    // The block that the first stage writes k-th holds the frequencies = k mod R, and so on inward.
    order_.assign(1, 0);
    for (size_t s = stages_.size(); s-- > 0;) {
      const int R = stages_[s].R, M = stages_[s].M;
      std::vector<int> outer(static_cast<size_t>(R) * M);
      for (int k = 0; k < R; ++k)
        for (int q = 0; q < M; ++q) outer[k * M + q] = k + R * order_[q];
      order_ = std::move(outer);
    }
  }

  int size() const { return n_; }
  const std::vector<int>& order() const { return order_; }
  // Numbers of scratch, 64-byte aligned, that each call needs.
  size_t scratch() const {
    return convolution_ ? static_cast<size_t>(convolution_->size()) * kElement : 0;
  }

  // done(n) is called whenever the first n positions have their result.
  template <class Done>
  void forward(T* p, T* scratch, Done&& done) const {
    if (convolution_) {
      bluestein<kForward>(p, scratch);
      return done(n_);
    }
    sweep<true, false>(0, p, 1, [&]<int R>(const Stage& stage, T* q, int count) {
      last<R, kForward>(stage, q, count);
      done(static_cast<int>((q - p) / kElement) + stage.R * count);
    });
  }
  void forward(T* p, T* scratch) const {
    forward(p, scratch, [](int) {});
  }
  void inverse(T* p, T* scratch) const {
    if (convolution_) return bluestein<kInverse>(p, scratch);
    sweep<false, true>(0, p, 1, [&]<int R>(const Stage& stage, T* q, int count) {
      last<R, kInverse>(stage, q, count);
    });
  }
  // forward, then op(v) on each element in the order of their positions, then inverse.
  template <class Op>
  void fused(T* p, T* scratch, Op& op) const {
    if (convolution_) {
      bluestein<kForward>(p, scratch);
      for (int q = 0; q < n_; ++q) {
        Element v = get(p + q * kElement);
        op(v);
        put(p + q * kElement, v);
      }
      return bluestein<kInverse>(p, scratch);
    }
    sweep<true, true>(0, p, 1, [&]<int R>(const Stage& stage, T* q, int count) {
      last_fused<R>(stage, q, count, op);
    });
  }

 private:
  struct Stage {
    int R, M;                 // R-point butterflies over elements M apart
    std::vector<T> twiddles;  // cos, sin of 2 pi j k / (R M) for j < M, 1 <= k < R
    std::vector<T> roots;     // of a radix above 16: odd_roots
  };

  static KSPIKE_INLINE Element get(const T* p) { return {S::load(p), S::load(p + W)}; }
  static KSPIKE_INLINE void put(T* p, Element v) {
    S::store(p, v.re);
    S::store(p + W, v.im);
  }

  // The radices of n, the odd ones first; empty if a prime factor is too large.
  static std::vector<int> factor(int n) {
    std::vector<int> radices;
    int twos = 0;
    for (; n % 2 == 0; n /= 2) ++twos;
    for (int p = 3; p <= kLargestRadix; p += 2)
      for (; n % p == 0; n /= p) radices.push_back(p);
    if (n > 1) return {};
    // Two small factors in one stage.
    auto merge = [&](int a, int b) {
      for (int p : {a, b})
        if (p % 2) radices.erase(std::find(radices.begin(), radices.end(), p));
      radices.push_back(a * b);
    };
    auto count = [&](int p) { return std::count(radices.begin(), radices.end(), p); };
    if (twos == 1 && count(5)) merge(2, 5), twos = 0;
    if (twos % 3 == 1 && count(3)) merge(2, 3), --twos;
    if (twos % 3 == 2 && count(3)) merge(4, 3), twos -= 2;
    while (count(3) && count(5)) merge(3, 5);
    // Eights, which fit in 32 registers and are few enough streams for a set of the L1 cache; what
    // is left over goes into one 2 or 4 at the start or one 16 at the end, where its elements lie
    // close together.
    const int rest = twos % 3 == 1 && twos > 1 ? 4 : twos % 3;
    if (rest == 1 || rest == 2) radices.push_back(1 << rest);
    for (int eights = (twos - rest) / 3; eights > 0; --eights) radices.push_back(8);
    if (rest == 4) radices.push_back(16);
    if (radices.empty()) radices.push_back(1);
    return radices;
  }

  // The butterfly of one stage, from load(k) to store(k, v), k < R; R = 0 stands for a radix that
  // is only known at run time.
  template <int R, int Sn, class Load, class Store>
  static KSPIKE_INLINE void butterfly(const Stage& stage, const Load& load, const Store& store) {
    if constexpr (R == 0) {
      odd_butterfly<Sn, V>(stage.R, stage.roots.data(), load, store);
    } else {
      Element x[R];
#pragma GCC unroll 16
      for (int k = 0; k < R; ++k) x[k] = load(k);
      Butterfly<R, Sn, T, V>::run(x);
#pragma GCC unroll 16
      for (int k = 0; k < R; ++k) store(k, x[k]);
    }
  }
  template <int Sn>  // v times exp(Sn 2 pi i j k / (R M)), tw being the twiddles of j
  static KSPIKE_INLINE Element twiddle(Element v, const T* tw, int k) {
    return k == 0 ? v : rotate<Sn>(v, tw[2 * k - 2], tw[2 * k - 1]);
  }

  // x[j + M k] for k < R -> butterfly -> times exp(-2 pi i j k / (R M)), for each j < M.
  template <int R>
  static void stage_forward(const Stage& stage, T* p) {
    const int radix = R == 0 ? stage.R : R;
    const size_t step = static_cast<size_t>(stage.M) * kElement;
    const T* tw = stage.twiddles.data();
    for (int j = 0; j < stage.M; ++j, p += kElement, tw += 2 * (radix - 1))
      butterfly<R, kForward>(
          stage, [&](int k) { return get(p + k * step); },
          [&](int k, Element v) { put(p + k * step, twiddle<kForward>(v, tw, k)); });
  }
  template <int R>
  static void stage_inverse(const Stage& stage, T* p) {
    const int radix = R == 0 ? stage.R : R;
    const size_t step = static_cast<size_t>(stage.M) * kElement;
    const T* tw = stage.twiddles.data();
    for (int j = 0; j < stage.M; ++j, p += kElement, tw += 2 * (radix - 1))
      butterfly<R, kInverse>(
          stage, [&](int k) { return twiddle<kInverse>(get(p + k * step), tw, k); },
          [&](int k, Element v) { put(p + k * step, v); });
  }
  // The innermost stage, M = 1, on `count` blocks one after the other.
  template <int R, int Sn>
  static void last(const Stage& stage, T* p, int count) {
    const int radix = R == 0 ? stage.R : R;
    for (int b = 0; b < count; ++b, p += radix * kElement)
      butterfly<R, Sn>(
          stage, [&](int k) { return get(p + k * kElement); },
          [&](int k, Element v) { put(p + k * kElement, v); });
  }
  template <int R, class Op>
  static void last_fused(const Stage& stage, T* p, int count, Op& op) {
    const int radix = R == 0 ? stage.R : R;
    for (int b = 0; b < count; ++b, p += radix * kElement) {
      Element x[R == 0 ? kLargestRadix : R];
      butterfly<R, kForward>(
          stage, [&](int k) { return get(p + k * kElement); }, [&](int k, Element v) { x[k] = v; });
#pragma GCC unroll 16
      for (int k = 0; k < radix; ++k) op(x[k]);
      butterfly<R, kInverse>(
          stage, [&](int k) { return x[k]; }, [&](int k, Element v) { put(p + k * kElement, v); });
    }
  }

  // f.template operator()<R>() with the stage's radix as a constant; 0 stands for one that is only
  // known at run time.
  template <class F>
  static KSPIKE_INLINE void with_radix(int R, F&& f) {
    switch (R) {
      case 1:
        return f.template operator()<1>();
      case 2:
        return f.template operator()<2>();
      case 3:
        return f.template operator()<3>();
      case 4:
        return f.template operator()<4>();
      case 5:
        return f.template operator()<5>();
      case 6:
        return f.template operator()<6>();
      case 7:
        return f.template operator()<7>();
      case 8:
        return f.template operator()<8>();
      case 10:
        return f.template operator()<10>();
      case 11:
        return f.template operator()<11>();
      case 12:
        return f.template operator()<12>();
      case 13:
        return f.template operator()<13>();
      case 15:
        return f.template operator()<15>();
      case 16:
        return f.template operator()<16>();
      default:
        return f.template operator()<0>();
    }
  }

  // The stages from s on, for blocks that lie one after the other: those before the last forward
  // or inverse or both, and innermost(stage, p, count) in the place of the last one.
  template <bool kDown, bool kUp, class Innermost>
  void sweep(size_t s, T* p, int count, const Innermost& innermost) const {
    const Stage& stage = stages_[s];
    if (s + 1 == stages_.size())
      return with_radix(stage.R,
                        [&]<int R>() { innermost.template operator()<R>(stage, p, count); });
    for (int b = 0; b < count; ++b, p += static_cast<size_t>(stage.R) * stage.M * kElement) {
      if constexpr (kDown) with_radix(stage.R, [&]<int R>() { stage_forward<R>(stage, p); });
      sweep<kDown, kUp>(s + 1, p, stage.R, innermost);
      if constexpr (kUp) with_radix(stage.R, [&]<int R>() { stage_inverse<R>(stage, p); });
    }
  }

  // Bluestein: jk = (j^2 + k^2 - (k - j)^2) / 2 turns the transform into a convolution with the
  // chirp exp(i pi j^2 / n), done by transforms of a length >= 2 n - 1 without large primes.
  void plan_bluestein() {
    int length = 2 * n_ - 1;
    auto smooth = [](int n) {
      for (int p : {2, 3, 5})
        while (n % p == 0) n /= p;
      return n == 1;
    };
    while (length % 4 != 0 || !smooth(length)) ++length;
    convolution_ = std::make_unique<Fft>(length);
    order_.resize(n_);
    chirp_.resize(2 * static_cast<size_t>(n_));
    std::vector<Complex<double>> chirp(n_);
    for (int j = 0; j < n_; ++j) {
      order_[j] = j;
      chirp[j] = root(int64_t{j} * j, 2 * int64_t{n_});
      chirp_[2 * j] = static_cast<T>(chirp[j].re);
      chirp_[2 * j + 1] = static_cast<T>(chirp[j].im);
    }
    // The spectrum of the chirp, one lane in double, in the order of the convolution's positions,
    // over its length.
    Fft<double, 2> exact(length);
    struct alignas(64) Line {
      double v[8];
    };
    std::vector<Line> buffer((static_cast<size_t>(length) * 4 + 7) / 8 + 1, Line{});
    double* b = buffer[0].v;
    for (int j = 0; j < n_; ++j)
      for (int at : {j, (length - j) % length}) {
        b[4 * at] = chirp[j].re;
        b[4 * at + 2] = chirp[j].im;
      }
    exact.forward(b, nullptr);
    std::vector<int> where(length);
    for (int q = 0; q < length; ++q) where[exact.order()[q]] = q;
    kernel_.resize(2 * static_cast<size_t>(length));
    for (int q = 0; q < length; ++q) {
      const double* value = b + 4 * where[convolution_->order()[q]];
      kernel_[2 * q] = static_cast<T>(value[0] / length);
      kernel_[2 * q + 1] = static_cast<T>(value[2] / length);
    }
  }
  struct TimesKernel {
    const T* k;
    KSPIKE_INLINE void operator()(Element& v) {
      v = rotate<1>(v, k[0], k[1]);
      k += 2;
    }
  };
  template <int Sn>  // the inverse is the forward transform with real and imaginary parts exchanged
  void bluestein(T* p, T* a) const {
    for (int j = 0; j < n_; ++j) {
      Element v = get(p + j * kElement);
      if constexpr (Sn == kInverse) std::swap(v.re, v.im);
      put(a + j * kElement, rotate<-1>(v, chirp_[2 * j], chirp_[2 * j + 1]));
    }
    for (int j = n_; j < convolution_->size(); ++j) put(a + j * kElement, Element{V{}, V{}});
    TimesKernel op{kernel_.data()};
    convolution_->fused(a, nullptr, op);
    for (int j = 0; j < n_; ++j) {
      Element v = rotate<-1>(get(a + j * kElement), chirp_[2 * j], chirp_[2 * j + 1]);
      if constexpr (Sn == kInverse) std::swap(v.re, v.im);
      put(p + j * kElement, v);
    }
  }

  template <class, int>
  friend class Fft;

  int n_;
  std::vector<Stage> stages_;
  std::vector<int> order_;
  std::unique_ptr<Fft> convolution_;
  std::vector<T> chirp_, kernel_;
};

}  // namespace kspike
