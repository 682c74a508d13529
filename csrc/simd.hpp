// SPDX-License-Identifier: MIT
// W numbers side by side, by the compiler's vector extension: arithmetic, comparison and ?: are the
// language's own. Here are only the four things it has no word for: bit masks, expansion, lane
// shifts and the W x W transpose.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#define KSPIKE_INLINE inline __attribute__((always_inline))

namespace kspike {

#if defined(__AVX512F__)
// choose(on, a, b) of scalar.hpp with one bit per lane, as the processor has its masks. Found
// before the template.
KSPIKE_INLINE __m512 choose(__mmask16 on, __m512 a, __m512 b) {
  return _mm512_mask_blend_ps(on, b, a);
}
KSPIKE_INLINE __m512d choose(__mmask8 on, __m512d a, __m512d b) {
  return _mm512_mask_blend_pd(on, b, a);
}
#endif

// With all lanes kept: the forms without a mask make GCC 12 warn of its own headers (bug 105593).
#if defined(__AVX512DQ__)
// Clip to [-t, t] in one instruction, the smaller modulus with the sign of v. Found before the
// template of scalar.hpp.
KSPIKE_INLINE __m512 clip(__m512 v, __m512 t) { return _mm512_maskz_range_ps(0xffff, v, t, 0x2); }
KSPIKE_INLINE __m512d clip(__m512d v, __m512d t) { return _mm512_maskz_range_pd(0xff, v, t, 0x2); }
#endif

#if defined(__AVX2__)
// For each choice of eight lanes: how many chosen ones lie below each lane.
struct Places {
  alignas(32) int32_t place[256][8];
  constexpr Places() : place{} {
    for (int bits = 0; bits < 256; ++bits)
      for (int l = 0, n = 0; l < 8; n += bits >> l & 1, ++l) place[bits][l] = n;
  }
  const __m256i* of(unsigned bits) const { return reinterpret_cast<const __m256i*>(place[bits]); }
};
inline constexpr Places kPlaces;
#endif

template <class T, int W>
struct Simd {
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef T V __attribute__((vector_size(W * sizeof(T))));
  typedef T Unaligned __attribute__((vector_size(W * sizeof(T)), aligned(sizeof(T)), may_alias));
  typedef Int On __attribute__((vector_size(W * sizeof(T))));
  // One bit per lane, and four of those for the four parts of a gradient pixel.
  using Bits = std::conditional_t<W == 16, uint16_t, uint8_t>;
  using Bits4 = std::conditional_t<
      W == 16, uint64_t,
      std::conditional_t<W == 8, uint32_t, std::conditional_t<W == 4, uint16_t, uint8_t>>>;

#if defined(__AVX512F__)
  static constexpr bool kMasks = W * sizeof(T) == 64;  // the processor has masks for such vectors
#else
  static constexpr bool kMasks = false;
#endif

  static KSPIKE_INLINE V load(const T* p) { return *reinterpret_cast<const V*>(p); }
  static KSPIKE_INLINE void store(T* p, V v) { *reinterpret_cast<V*>(p) = v; }
  static KSPIKE_INLINE V load_unaligned(const T* p) {
    return *reinterpret_cast<const Unaligned*>(p);
  }
  static KSPIKE_INLINE void store_unaligned(T* p, V v) { *reinterpret_cast<Unaligned*>(p) = v; }
  static KSPIKE_INLINE V all(T v) { return all(v, std::make_index_sequence<W>{}); }

  // Lane l of the result is -1 where bit l is set.
  static KSPIKE_INLINE On lanes(unsigned bits) {
    On bit;
    for (int l = 0; l < W; ++l) bit[l] = Int{1} << l;
    return ((On{} + static_cast<Int>(bits)) & bit) != 0;
  }

  static KSPIKE_INLINE V modulus(V v) { return v < 0 ? -v : v; }
  // The larger of two numbers >= 0; not a number if either is not.
  static KSPIKE_INLINE V larger(V a, V b) { return a >= b || a != a ? a : b; }

  // Part p of four packed parts, to choose by.
  static KSPIKE_INLINE auto part(Bits4 packed, int p) {
    const Bits4 bits = packed >> (p * W);
    if constexpr (kMasks)
      return static_cast<Bits>(bits);
    else
      return lanes(static_cast<unsigned>(bits) & ((1u << W) - 1));
  }

  // 1 / v for v > 0, to an ulp or two: in single precision from the processor's estimate by one
  // step of Newton's method, where there is one.
  static KSPIKE_INLINE V reciprocal(V v) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64 && sizeof(T) == 4)
      return newton((V)_mm512_maskz_rcp14_ps(0xffff, (__m512)v), v);
#elif defined(__AVX2__)
    if constexpr (sizeof(V) == 32 && sizeof(T) == 4) return newton((V)_mm256_rcp_ps((__m256)v), v);
#endif
    return 1 / v;
  }

  // v in the lanes whose bit is set, zero in the others.
  static KSPIKE_INLINE V keep(unsigned bits, V v) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64 && sizeof(T) == 4)
      return (V)_mm512_maskz_mov_ps(static_cast<__mmask16>(bits), (__m512)v);
    if constexpr (sizeof(V) == 64 && sizeof(T) == 8)
      return (V)_mm512_maskz_mov_pd(static_cast<__mmask8>(bits), (__m512d)v);
#endif
    return lanes(bits) ? v : V{};
  }

  // Bit l of the result says whether lane l of a and of b differ.
  static KSPIKE_INLINE unsigned differ(V a, V b) {
#if defined(__AVX512F__)
    if constexpr (kMasks && sizeof(T) == 4)
      return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_NEQ_UQ);
    if constexpr (kMasks && sizeof(T) == 8)
      return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_NEQ_UQ);
#endif
    return bits(a != b);
  }
  // Bit l of the result is the sign of lane l of a comparison.
  static KSPIKE_INLINE unsigned bits(On on) {
#if defined(__AVX512F__)
    if constexpr (sizeof(On) == 64 && sizeof(T) == 4) return _mm512_movepi32_mask((__m512i)on);
    if constexpr (sizeof(On) == 64 && sizeof(T) == 8) return _mm512_movepi64_mask((__m512i)on);
#endif
#if defined(__AVX2__)
    if constexpr (sizeof(On) == 32 && sizeof(T) == 4)
      return static_cast<unsigned>(_mm256_movemask_ps((__m256)on));
    if constexpr (sizeof(On) == 32 && sizeof(T) == 8)
      return static_cast<unsigned>(_mm256_movemask_pd((__m256d)on));
#endif
    unsigned r = 0;
    for (int l = 0; l < W; ++l) r |= (on[l] ? 1u : 0u) << l;
    return r;
  }

  // The next numbers of p go to the lanes whose bit is set, zero to the others. Reads W numbers
  // from p.
  static KSPIKE_INLINE V expand(unsigned bits, const T* p) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64 && sizeof(T) == 4)
      return (V)_mm512_maskz_expand_ps(static_cast<__mmask16>(bits), _mm512_loadu_ps(p));
    if constexpr (sizeof(V) == 64 && sizeof(T) == 8)
      return (V)_mm512_maskz_expand_pd(static_cast<__mmask8>(bits), _mm512_loadu_pd(p));
#endif
#if defined(__AVX2__)
    if constexpr (sizeof(V) == 32 && sizeof(T) == 4)
      return keep(bits, (V)_mm256_permutevar8x32_ps(_mm256_loadu_ps(p),
                                                    _mm256_load_si256(kPlaces.of(bits))));
#endif
    V v{};
    for (int l = 0; l < W; ++l)
      if (bits >> l & 1) v[l] = *p++;
    return v;
  }

  template <class F, size_t... I>
  static KSPIKE_INLINE V shuffle(V a, V b, F, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b, F::from(static_cast<int>(I))...);
  }
  template <class F>
  static KSPIKE_INLINE V shuffle(V a, V b) {
    return shuffle(a, b, F{}, std::make_index_sequence<W>{});
  }

  // Lane l of the result is lane l + 1 of v; the last is `next`.
  struct Down {
    static constexpr int from(int l) { return l + 1; }
  };
  static KSPIKE_INLINE V shift_down(V v, T next) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64 && sizeof(T) == 4)
      return (V)_mm512_maskz_alignr_epi32(0xffff, (__m512i)all(next), (__m512i)v, 1);
    if constexpr (sizeof(V) == 64 && sizeof(T) == 8)
      return (V)_mm512_maskz_alignr_epi64(0xff, (__m512i)all(next), (__m512i)v, 1);
#endif
    return shuffle<Down>(v, all(next));
  }
  // Lane l of the result is lane l - 1 of v; the first is `previous`.
  struct Up {
    static constexpr int from(int l) { return l == 0 ? W : l - 1; }
  };
  static KSPIKE_INLINE V shift_up(V v, T previous) {
#if defined(__AVX512F__)
    if constexpr (sizeof(V) == 64 && sizeof(T) == 4)
      return (V)_mm512_maskz_alignr_epi32(0xffff, (__m512i)v, (__m512i)all(previous), 15);
    if constexpr (sizeof(V) == 64 && sizeof(T) == 8)
      return (V)_mm512_maskz_alignr_epi64(0xff, (__m512i)v, (__m512i)all(previous), 7);
#endif
    return shuffle<Up>(v, all(previous));
  }

  // a[i] lane j <-> a[j] lane i: first inside the 128-bit quarters, then the quarters.
  static KSPIKE_INLINE void transpose(V* a) {
    V b[W];
    interleave(a, b);
    constexpr int L = static_cast<int>(16 / sizeof(T));  // lanes in 128 bits
    if constexpr (W == L) {
#pragma GCC unroll 16
      for (int i = 0; i < W; ++i) a[i] = b[i];
    } else if constexpr (W == 2 * L) {
#pragma GCC unroll 16
      for (int i = 0; i < L; ++i) {
        a[i] = shuffle<Quarters<0, 2>>(b[i], b[L + i]);
        a[L + i] = shuffle<Quarters<1, 3>>(b[i], b[L + i]);
      }
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < L; ++i) {
        const V p = shuffle<Quarters<0, 1, 4, 5>>(b[i], b[L + i]);
        const V q = shuffle<Quarters<2, 3, 6, 7>>(b[i], b[L + i]);
        const V r = shuffle<Quarters<0, 1, 4, 5>>(b[2 * L + i], b[3 * L + i]);
        const V s = shuffle<Quarters<2, 3, 6, 7>>(b[2 * L + i], b[3 * L + i]);
        a[i] = shuffle<Quarters<0, 2, 4, 6>>(p, r);
        a[L + i] = shuffle<Quarters<1, 3, 5, 7>>(p, r);
        a[2 * L + i] = shuffle<Quarters<0, 2, 4, 6>>(q, s);
        a[3 * L + i] = shuffle<Quarters<1, 3, 5, 7>>(q, s);
      }
    }
  }

  // (re, im) -> re0 im0 re1 im1 ... in two vectors, and back.
  template <int Half>
  struct Zip {
    static constexpr int from(int l) { return (l & 1) * W + l / 2 + Half * W / 2; }
  };
  template <int Part>
  struct Unzip {
    static constexpr int from(int l) { return 2 * l + Part; }
  };
  static KSPIKE_INLINE void store_complex(T* p, V re, V im) {
    store_unaligned(p, shuffle<Zip<0>>(re, im));
    store_unaligned(p + W, shuffle<Zip<1>>(re, im));
  }
  static KSPIKE_INLINE void load_complex(const T* p, V& re, V& im) {
    const V a = load_unaligned(p), b = load_unaligned(p + W);
    re = shuffle<Unzip<0>>(a, b);
    im = shuffle<Unzip<1>>(a, b);
  }

 private:
  template <size_t... I>
  static KSPIKE_INLINE V all(T v, std::index_sequence<I...>) {
    return V{(static_cast<void>(I), v)...};
  }
  static KSPIKE_INLINE V newton(V r, V v) { return r + r * (1 - v * r); }
  template <int... Q>  // 128-bit pieces, counted through both operands
  struct Quarters {
    static constexpr int q[] = {Q...};
    static constexpr int from(int l) {
      constexpr int L = static_cast<int>(16 / sizeof(T));
      return q[l / L] * L + l % L;
    }
  };
  template <int Hi,
            int Size>  // unpack low or high: blocks of Size lanes, alternating, inside 128 bits
  struct Unpack {
    static constexpr int from(int l) {
      constexpr int L = static_cast<int>(16 / sizeof(T));
      const int in = l % L, block = in / Size, source = block / 2 + Hi * (L / Size / 2);
      return l / L * L + source * Size + in % Size + (block & 1 ? W : 0);
    }
  };
  static KSPIKE_INLINE void interleave(const V* a, V* b) {
    if constexpr (sizeof(T) == 8) {
#pragma GCC unroll 16
      for (int i = 0; i < W; i += 2) {
        b[i] = shuffle<Unpack<0, 1>>(a[i], a[i + 1]);
        b[i + 1] = shuffle<Unpack<1, 1>>(a[i], a[i + 1]);
      }
    } else {
#pragma GCC unroll 16
      for (int i = 0; i < W; i += 4) {
        const V lo0 = shuffle<Unpack<0, 1>>(a[i], a[i + 1]),
                hi0 = shuffle<Unpack<1, 1>>(a[i], a[i + 1]);
        const V lo1 = shuffle<Unpack<0, 1>>(a[i + 2], a[i + 3]);
        const V hi1 = shuffle<Unpack<1, 1>>(a[i + 2], a[i + 3]);
        b[i] = shuffle<Unpack<0, 2>>(lo0, lo1);
        b[i + 1] = shuffle<Unpack<1, 2>>(lo0, lo1);
        b[i + 2] = shuffle<Unpack<0, 2>>(hi0, hi1);
        b[i + 3] = shuffle<Unpack<1, 2>>(hi0, hi1);
      }
    }
  }
};

}  // namespace kspike
