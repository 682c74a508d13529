// SPDX-License-Identifier: MIT
// The iteration in the joint norms, one thread a pixel: KS_GROUP parts of D x shrink together, 2
// for the modulus of a component and 4 for the length of the gradient of the pixel. Their support
// is the field s = shrink(w) / |w|, see kspike.reference.support; the host twin is norms.hpp.
#include "pixel.hpp"

constexpr int K = KS_GROUP;

// The four parts of a field at a pixel, or of D x there.
struct Parts {
  Real part[4];
};

KS_DEVICE Parts load(const Complex* w, const Pixel& p, int row, int col) {
  const Complex w0 = w[p.field(0, row, col)], w1 = w[p.field(1, row, col)];
  return {w0.x, w0.y, w1.x, w1.y};
}
KS_DEVICE void store(Complex* w, const Pixel& p, const Parts& v) {
  w[p.field(0)] = make(v.part[0], v.part[1]);
  w[p.field(1)] = make(v.part[2], v.part[3]);
}

// The group that begins at part i: the inner product with another, and min(1, t / |v|).
KS_DEVICE Real inner(const Parts& a, const Parts& b, int i) {
  Real sum = a.part[i] * b.part[i];
#pragma unroll
  for (int p = 1; p < K; ++p) sum += a.part[i + p] * b.part[i + p];
  return sum;
}
KS_DEVICE Real ball(const Parts& v, Real t, int i) {
  const Real squared = inner(v, v, i);
  return kspike::joint_ball(squared, 1 / sqrt(squared), t);
}

// f = w - 2 clip(w).
KS_DEVICE Parts reflected(const Parts& w, Real t) {
  Parts f;
#pragma unroll
  for (int i = 0; i < 4; i += K) {
    const Real factor = 1 - 2 * ball(w, t, i);
#pragma unroll
    for (int p = i; p < i + K; ++p) f.part[p] = factor * w.part[p];
  }
  return f;
}

// The symmetric matrix S of a pixel from its support: S v = length v + weight <s, v> s, group by
// group.
struct Slope {
  Parts s;
  Real length[4 / K], weight[4 / K];
  __device__ explicit Slope(const Parts& support) : s(support) {
#pragma unroll
    for (int i = 0; i < 4; i += K) {
      const Real squared = inner(s, s, i), inverse = 1 / sqrt(squared);
      length[i / K] = kspike::joint_length(squared, inverse);
      weight[i / K] = kspike::joint_weight(squared, inverse);
    }
  }
  __device__ Parts operator()(const Parts& v) const {
    Parts out;
#pragma unroll
    for (int i = 0; i < 4; i += K) {
      const Real along = weight[i / K] * inner(s, v, i);
#pragma unroll
      for (int p = i; p < i + K; ++p) out.part[p] = length[i / K] * v.part[p] + along * s.part[p];
    }
    return out;
  }
};

// Each of these advances the field at one pixel, v <- next(v, D x), and returns what D* takes of
// it. w <- w + relax (D x - shrink(w)), f = w - 2 clip(w).
struct Update {
  Real t, relax;
  __device__ Parts operator()(Parts& v, const Parts& d, const Pixel&, int, int) const {
#pragma unroll
    for (int i = 0; i < 4; i += K) {
      const Real shrunk = 1 - ball(v, t, i);
#pragma unroll
      for (int p = i; p < i + K; ++p) v.part[p] += relax * (d.part[p] - shrunk * v.part[p]);
    }
    return reflected(v, t);
  }
};

// dw <- dw + relax (D dx - S dw), f = (2 S - 1) dw.
struct UpdateTangent {
  const Complex* tape;
  Real relax;
  __device__ Parts operator()(Parts& v, const Parts& d, const Pixel& p, int row, int col) const {
    const Slope slope(load(tape, p, row, col));
    const Parts sv = slope(v);
#pragma unroll
    for (int i = 0; i < 4; ++i) v.part[i] += relax * (d.part[i] - sv.part[i]);
    Parts f = slope(v);
#pragma unroll
    for (int i = 0; i < 4; ++i) f.part[i] += f.part[i] - v.part[i];
    return f;
  }
};

// g <- g - relax S g + rho (2 S - 1) D r, f = relax g.
struct UpdateAdjoint {
  const Complex* tape;
  Real relax, rho;
  __device__ Parts operator()(Parts& v, const Parts& d, const Pixel& p, int row, int col) const {
    Parts mixed, f;
#pragma unroll
    for (int i = 0; i < 4; ++i) mixed.part[i] = 2 * rho * d.part[i] - relax * v.part[i];
    const Parts sm = Slope(load(tape, p, row, col))(mixed);
#pragma unroll
    for (int i = 0; i < 4; ++i) v.part[i] += sm.part[i] - rho * d.part[i];
#pragma unroll
    for (int i = 0; i < 4; ++i) f.part[i] = relax * v.part[i];
    return f;
  }
};

// f at a pixel and its neighbours above and on the left: D* of it here.
KS_DEVICE Complex gathered(const Parts& up, const Parts& left, const Parts& here) {
  return make(up.part[0] - here.part[0] + left.part[2] - here.part[2],
              up.part[1] - here.part[1] + left.part[3] - here.part[3]);
}

// D x at (row, col), whose neighbours below and on the right are at row `down` and column `right`.
KS_DEVICE Parts grad_at(const Pixel& p, const Complex* x, int row, int col, int down, int right) {
  const Complex here = x[p.at(row, col)];
  const Complex d0 = x[p.at(down, col)] - here, d1 = x[p.at(row, right)] - here;
  return {d0.x, d0.y, d1.x, d1.y};
}

// x from f, w_next = next(w, D x), g = D* of what `u` gives; g and x may be null. The neighbours
// above and on the left are advanced here once more instead of being exchanged.
template <class U>
KS_DEVICE void sweep(const U& u, const Pixel& p, Complex* g, Complex* w_next, Complex* x,
                     const Complex* f, const Complex* w) {
  Parts here = load(w, p, p.i, p.j);
  const Parts out = u(here, grad_at(p, f, p.i, p.j, p.down(), p.right()), p, p.i, p.j);
  store(w_next, p, here);
  if (g) {
    Parts up = load(w, p, p.up(), p.j), left = load(w, p, p.i, p.left());
    const Parts above = u(up, grad_at(p, f, p.up(), p.j, p.i, p.right()), p, p.up(), p.j);
    const Parts beside = u(left, grad_at(p, f, p.i, p.left(), p.down(), p.j), p, p.i, p.left());
    g[p.at()] = gathered(above, beside, out);
  }
  if (x) x[p.at()] = f[p.at()];
}

KS_KERNEL reflect(Complex* g, const Complex* w, Real t, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  const auto at = [&](int row, int col) { return reflected(load(w, p, row, col), t); };
  g[p.at()] = gathered(at(p.up(), p.j), at(p.i, p.left()), at(p.i, p.j));
}

KS_KERNEL begin_tangent(Complex* g, const Complex* w, const Complex* tape, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  const auto at = [&](int row, int col) {
    const Parts v = load(w, p, row, col);
    Parts f = Slope(load(tape, p, row, col))(v);
#pragma unroll
    for (int i = 0; i < 4; ++i) f.part[i] += f.part[i] - v.part[i];
    return f;
  };
  g[p.at()] = gathered(at(p.up(), p.j), at(p.i, p.left()), at(p.i, p.j));
}

// tape <- shrink(w, t) / |w|.
KS_KERNEL record(Complex* tape, const Complex* w, Real t, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  Parts v = load(w, p, p.i, p.j);
#pragma unroll
  for (int i = 0; i < 4; i += K) {
    const Real squared = inner(v, v, i);
    const Real factor = kspike::joint_support(squared, 1 / sqrt(squared), t);
#pragma unroll
    for (int q = i; q < i + K; ++q) v.part[q] *= factor;
  }
  store(tape, p, v);
}

KS_KERNEL update(Complex* g, Complex* w_next, Complex* x, const Complex* f, const Complex* w,
                 Real t, Real relax, const int* count, int step, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside || !runs(count, int(blockIdx.z), step)) return;
  sweep(Update{t, relax}, p, g, w_next, x, f, w);
}

KS_KERNEL update_tangent(Complex* g, Complex* w_next, Complex* x, const Complex* f,
                         const Complex* w, const Complex* tape, Real relax, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside) return;
  sweep(UpdateTangent{tape, relax}, p, g, w_next, x, f, w);
}

KS_KERNEL update_adjoint(Complex* g, Complex* w_next, Complex* x, const Complex* f,
                         const Complex* w, const Complex* tape, Real relax, Real rho,
                         const int* count, int step, int rows, int cols) {
  const Pixel p(rows, cols);
  if (!p.inside || !runs(count, int(blockIdx.z), step)) return;
  sweep(UpdateAdjoint{tape, relax, rho}, p, g, w_next, x, f, w);
}
