// SPDX-License-Identifier: MIT
// The three sweeps over a field - the iteration, its tangent, its reverse - as one pattern. `next`
// is the new value of one channel of the field from its old value w, the difference d = (D x)
// there, and its two bits of the support; `emit` is what D* takes of the new value on the way to
// the next right-hand side.
#pragma once
#include "device.hpp"

// w <- shrink_update(w, x, t, relax), then reflect(w, t). The support of the old w is what the tape
// records.
struct Update {
  static constexpr bool records = true;
  Real t, relax;
  __device__ Word bits(Complex w0, Complex w1) const {
    return support(w0, t) | support(w1, t) << 2;
  }
  __device__ Complex next(Complex w, Complex d, Word) const {
    return parts([&](Real a, Real b) { return kspike::shrink_update(a, b, t, relax); }, w, d);
  }
  __device__ Complex emit(Complex w, Word) const {
    return parts([&](Real a) { return kspike::reflect(a, t); }, w);
  }
};

// dw <- shrink_update_tangent(dw, dx, bits, relax), then reflect_tangent(dw, bits).
struct UpdateTangent {
  static constexpr bool records = false;
  Real relax;
  __device__ Complex next(Complex w, Complex d, Word s) const {
    return parts_on(
        [&](Real a, Real b, bool on) { return kspike::shrink_update_tangent(a, b, on, relax); }, w,
        d, s);
  }
  __device__ Complex emit(Complex w, Word s) const {
    return parts_on([](Real a, bool on) { return kspike::reflect_tangent(a, on); }, w, s);
  }
};

// g <- shrink_update_adjoint(g, r, bits, relax, rho), then relax g.
struct UpdateAdjoint {
  static constexpr bool records = false;
  Real relax, rho;
  __device__ Complex next(Complex w, Complex d, Word s) const {
    return parts_on([&](Real a, Real b,
                        bool on) { return kspike::shrink_update_adjoint(a, b, on, relax, rho); },
                    w, d, s);
  }
  __device__ Complex emit(Complex w, Word) const { return relax * w; }
};

// D* at a pixel, from channel 0 above and here and channel 1 on the left and here.
KS_DEVICE Complex grad_adjoint_at(Complex up, Complex here0, Complex left, Complex here1) {
  return up - here0 + left - here1;
}

// The field values that D* reads at one pixel, and their four bits where they are: (i, j), above
// it, left of it.
struct Field {
  Complex w0, w1, up, left;
  Word here, above, beside;
};

// The image values that D reads there.
struct Image {
  Complex here, down, right, up, left;
};

// One pixel of a sweep: advance the field, and gather D* emit(new field). The values above and on
// the left are advanced here once more instead of being exchanged, which costs a little arithmetic
// and saves two barriers and their registers.
template <class U>
KS_DEVICE Complex sweep(const U& u, Field& f, const Image& x) {
  f.w0 = u.next(f.w0, x.down - x.here, f.here);
  f.w1 = u.next(f.w1, x.right - x.here, f.here >> 2);
  f.up = u.next(f.up, x.here - x.up, f.above);
  f.left = u.next(f.left, x.here - x.left, f.beside >> 2);
  return grad_adjoint_at(u.emit(f.up, f.above), u.emit(f.w0, f.here), u.emit(f.left, f.beside >> 2),
                         u.emit(f.w1, f.here >> 2));
}

// D* emit(field) as it stands: the first right-hand side.
template <class U>
KS_DEVICE Complex begin(const U& u, const Field& f) {
  return grad_adjoint_at(u.emit(f.up, f.above), u.emit(f.w0, f.here), u.emit(f.left, f.beside >> 2),
                         u.emit(f.w1, f.here >> 2));
}
