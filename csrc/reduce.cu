// SPDX-License-Identifier: MIT
// Reductions that stay on the device: the stopping rule of a solve, the norms and the peak of an
// attack. Each is in two kernels: `blocks` partial results an image, from threads (256), grid
// (blocks, batch), and a second one that combines them in a fixed order. No atomics: the results do
// not depend on the order of execution.
#include "device.hpp"

// combine(combine(v_0, v_1), ...) over the block, for thread 0; the others get a part of it.
template <class V, class Combine>
KS_DEVICE V block_reduce(V v, Combine combine) {
  KS_SHARED(V, shared);
  shared[threadIdx.x] = v;
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      shared[threadIdx.x] = combine(shared[threadIdx.x], shared[threadIdx.x + half]);
    }
  }
  return shared[threadIdx.x];
}

// f(i) for the items of an image that this thread takes, i < n.
template <class F>
KS_DEVICE void items(long long n, F f) {
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n;
       i += (long long)gridDim.x * blockDim.x) {
    f(i);
  }
}

KS_DEVICE Real larger(Real a, Real b) { return b > a || b != b ? b : a; }

// partial <- max |x - seen| over real and imaginary parts; seen <- x.
KS_KERNEL changes(Real* partial, Complex* seen, const Complex* x, const int* live, long long n) {
  if (!live[blockIdx.y]) return;
  Complex* seen_image = seen + blockIdx.y * n;
  const Complex* image = x + blockIdx.y * n;
  Real most = 0;
  items(n, [&](long long i) {
    const Complex d = image[i] - seen_image[i];
    most = larger(most, larger(d.x < 0 ? -d.x : d.x, d.y < 0 ? -d.y : d.y));
    seen_image[i] = image[i];
  });
  most = block_reduce(most, larger);
  if (threadIdx.x == 0) partial[blockIdx.y * gridDim.x + blockIdx.x] = most;
}

// A look, `every` iterations after the last: an image whose change is at most stop[image] ends
// here, live <- 0. The first look, with ended at 0, has nothing to compare with. One thread an
// image.
KS_KERNEL judge(int* live, long long* ended, double* change, const double* stop,
                const Real* partial, int blocks, int every, int batch) {
  const int image = blockIdx.x * blockDim.x + threadIdx.x;
  if (image >= batch || !live[image]) return;
  if (ended[image] > 0) {
    Real most = 0;
    for (int b = 0; b < blocks; ++b) most = larger(most, partial[image * blocks + b]);
    change[image] = most;
  }
  ended[image] += every;
  if (change[image] <= stop[image]) live[image] = 0;
}

// partial <- sum |v|^2.
KS_KERNEL squares(double* partial, const Complex* v, long long n) {
  const Complex* image = v + blockIdx.y * n;
  double sum = 0;
  items(n, [&](long long i) {
    sum += double(image[i].x) * image[i].x + double(image[i].y) * image[i].y;
  });
  sum = block_reduce(sum, [](double a, double b) { return a + b; });
  if (threadIdx.x == 0) partial[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

// eta / ||v|| from the partial sums of its squares; 0 for v = 0.
KS_DEVICE Real unit(const double* partial, int blocks, double eta) {
  double sum = 0;
  for (int b = 0; b < blocks; ++b) sum += partial[blockIdx.y * blocks + b];
  return sum > 0 ? Real(eta / sqrt(sum)) : Real(0);
}

// out <- keep e + (1 - keep) eta g / ||g||. With keep = 0 and e = g: the projection of g onto the
// sphere of radius eta.
KS_KERNEL momentum(Complex* out, const Complex* e, const Complex* g, const double* partial,
                   Real keep, const double* eta, long long n) {
  const Real scale = (1 - keep) * unit(partial, gridDim.x, eta[blockIdx.y]);
  items(n, [&](long long i) {
    const long long at = blockIdx.y * n + i;
    out[at] = keep * e[at] + scale * g[at];
  });
}

// The largest |x|^2 and the first place where it is.
struct Peak {
  Real square;
  long long place;
};
KS_DEVICE Peak higher(Peak a, Peak b) {
  return b.square > a.square || (b.square == a.square && b.place < a.place) ? b : a;
}

KS_KERNEL peaks(Peak* partial, const Complex* x, long long n) {
  const Complex* image = x + blockIdx.y * n;
  Peak best = {-1, n};
  items(n, [&](long long i) {
    best = higher(best, {image[i].x * image[i].x + image[i].y * image[i].y, i});
  });
  best = block_reduce(best, higher);
  if (threadIdx.x == 0) partial[blockIdx.y * gridDim.x + blockIdx.x] = best;
}

// modulus <- ||x||_inf, place <- where, one thread an image.
KS_KERNEL peak(Real* modulus, long long* place, const Peak* partial, int blocks, int batch) {
  const int image = blockIdx.x * blockDim.x + threadIdx.x;
  if (image >= batch) return;
  Peak best = partial[image * blocks];
  for (int b = 1; b < blocks; ++b) best = higher(best, partial[image * blocks + b]);
  modulus[image] = sqrt(best.square);
  place[image] = best.place;
}
