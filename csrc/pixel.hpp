// SPDX-License-Identifier: MIT
// CUDA: one thread a pixel. Threads (32, 8), grid (cols / 32, rows / 8, batch).
#pragma once
#include "device.hpp"

// The pixel of this thread, its neighbours on the torus, and where they lie in images, fields and
// tapes.
struct Pixel {
  int rows, cols, i, j;
  long long image, plane;  // offset of the image, pixels of a plane
  bool inside;
  __device__ Pixel(int rows_, int cols_) : rows(rows_), cols(cols_) {
    i = int(blockIdx.y * blockDim.y + threadIdx.y);
    j = int(blockIdx.x * blockDim.x + threadIdx.x);
    plane = (long long)rows * cols;
    image = (long long)blockIdx.z * plane;
    inside = i < rows && j < cols;
  }
  __device__ int up() const { return i == 0 ? rows - 1 : i - 1; }
  __device__ int down() const { return i + 1 == rows ? 0 : i + 1; }
  __device__ int left() const { return j == 0 ? cols - 1 : j - 1; }
  __device__ int right() const { return j + 1 == cols ? 0 : j + 1; }
  __device__ long long at(int row, int col) const { return image + (long long)row * cols + col; }
  __device__ long long at() const { return at(i, j); }
  __device__ long long field(int c, int row, int col) const {
    return image + at(row, col) + c * plane;
  }
  __device__ long long field(int c) const { return field(c, i, j); }
};
