// SPDX-License-Identifier: MIT
// The x-update at one frequency, spectra being unscaled transforms in the transforms' own order
// (frequency 0 first).
#pragma once
#include "device.hpp"

// x^ = scale (data^ + weight v^) / (sampled + rho K), the scale being that of the inverse
// transform.
struct Resolvent {
  const unsigned char* sampled;         // (rows, cols): the mask
  const Real *row_symbol, *col_symbol;  // K(i, j) = row_symbol[i] + col_symbol[j]
  const Complex* data;                  // (batch, rows, cols), or null for none
  int dense;  // whether data is read everywhere, or only where sampled and taken for 0 elsewhere
  Complex* total;  // (batch, rows, cols) that gathers x^ where sampled, or null
  Real rho, weight, scale;

  // Frequency (i, j), at `place` of the plane and `place + image` of the batch.
  __device__ Complex operator()(Complex v, int i, int j, long long image, long long place) const {
    const bool on = sampled[place] != 0;
    const Real inverse = scale * kspike::resolvent(Real(on), row_symbol[i] + col_symbol[j], rho);
    v = weight * v;
    if (data && (on || dense)) v = v + data[image + place];
    v = inverse * v;
    if (total && on) total[image + place] = total[image + place] + v;
    return v;
  }
};
#define KS_RESOLVENT_PARAMETERS                                                 \
  const unsigned char *sampled, const Real *row_symbol, const Real *col_symbol, \
      const Complex *data, int dense, Complex *total, Real rho, Real weight, Real scale
#define KS_RESOLVENT \
  Resolvent { sampled, row_symbol, col_symbol, data, dense, total, rho, weight, scale }
