// SPDX-License-Identifier: MIT
// Between samples (batch, m) and spectra (batch, rows, cols), and the x-update on a whole spectrum.
// Threads (256), grid (items / 256, batch). A centred transform is the plain one times a phase:
// exp(2 pi i k (n // 2) / n) along each axis.
#include "kspace.hpp"

// Sample `place[s]` of the plane has the phase row_phase[i] col_phase[j].
KS_DEVICE Complex phase_at(int place, const Complex* row_phase, const Complex* col_phase,
                           int cols) {
  return row_phase[place / cols] * col_phase[place % cols];
}

// y <- scale P F x from the plain spectrum of x.
KS_KERNEL gather(Complex* y, const Complex* spectrum, const int* place, const Complex* row_phase,
                 const Complex* col_phase, Real scale, int m, int rows, int cols) {
  const int s = blockIdx.x * blockDim.x + threadIdx.x;
  if (s >= m) return;
  const Complex v = spectrum[(long long)blockIdx.y * rows * cols + place[s]];
  y[(long long)blockIdx.y * m + s] = scale * (phase_at(place[s], row_phase, col_phase, cols) * v);
}

// spectrum <- spectrum + the plain spectrum of scale F* P* y.
KS_KERNEL scatter(Complex* spectrum, const Complex* y, const int* place, const Complex* row_phase,
                  const Complex* col_phase, Real scale, int m, int rows, int cols) {
  const int s = blockIdx.x * blockDim.x + threadIdx.x;
  if (s >= m) return;
  const Complex v =
      conj(phase_at(place[s], row_phase, col_phase, cols)) * y[(long long)blockIdx.y * m + s];
  const long long at = (long long)blockIdx.y * rows * cols + place[s];
  spectrum[at] = spectrum[at] + scale * v;
}

// spectrum <- x^ in place: see Resolvent.
KS_KERNEL resolvent(Complex* spectrum, KS_RESOLVENT_PARAMETERS, const int* count, int step,
                    int rows, int cols) {
  const long long plane = (long long)rows * cols, image = (long long)blockIdx.y * plane;
  const long long place = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (place >= plane || !runs(count, int(blockIdx.y), step)) return;
  spectrum[image + place] =
      KS_RESOLVENT(spectrum[image + place], int(place / cols), int(place % cols), image, place);
}
