// SPDX-License-Identifier: MIT
// The threads that work on one image together, and the memory they work in.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "threads.hpp"

namespace kspike {

// Zeroed memory for vectors, on huge pages where it is large and the system has them: a group of
// rows touches every tile. Behind it `guard` numbers that nobody touches.
template <class T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(size_t n, size_t guard = 0)
      : size_(n),
        guard_(guard),
        p_(static_cast<T*>(::operator new(bytes(n + guard), alignment(n)))) {
#if defined(MADV_HUGEPAGE)
    if (is_large(n)) madvise(p_, bytes(n), MADV_HUGEPAGE);
#endif
    clear();
  }
  Aligned(const Aligned& other) : Aligned(other.size_, other.guard_) {
    std::copy_n(other.p_, size_, p_);
  }
  Aligned(Aligned&& other) noexcept { swap(other); }
  Aligned& operator=(Aligned other) noexcept {
    swap(other);
    return *this;
  }
  ~Aligned() { ::operator delete(p_, alignment(size_)); }
  void clear() { std::memset(static_cast<void*>(p_), 0, bytes(size_)); }
  T* data() { return p_; }
  const T* data() const { return p_; }
  size_t size() const { return size_; }

 private:
  static bool is_large(size_t n) { return n * sizeof(T) >= size_t{4} << 20; }
  static std::align_val_t alignment(size_t n) {
    return std::align_val_t{is_large(n) ? size_t{2} << 20 : 64};
  }
  static size_t bytes(size_t n) {
    return (n * sizeof(T) / 64 + 2) * 64;
  }  // room for a vector read past the end
  void swap(Aligned& other) noexcept {
    std::swap(size_, other.size_);
    std::swap(guard_, other.guard_);
    std::swap(p_, other.p_);
  }
  size_t size_ = 0, guard_ = 0;
  T* p_ = nullptr;
};

// The larger of two numbers; not a number if either is not.
inline double larger(double a, double b) { return a != a || b <= a ? a : b; }

// The threads that work on one image together, and what they share.
template <class T>
struct Team {
  explicit Team(int size) : members(size), barrier(size) {}
  struct Member {
    Aligned<T> rows[3];  // three groups of W rows in flight
    Aligned<T> above;    // f, channel 0, of the row above the group: one complex number per column
    Aligned<T> first_x;  // x in the first row of the member's band, for the band above
    Aligned<T> last_f;   // f in its last row, for the band below
    Aligned<T> transform;  // what the transforms need
    double change = 0;
  };
  std::vector<Member> members;
  Barrier barrier;
  Aligned<T> data, w, h, total;  // the samples in column-pass order; scratch of an image's size
  Aligned<T> rhs;                // a right-hand side in image space, in groups of rows
  std::vector<char> rhs_rows;    // the groups in which it is not zero

  int size() const { return static_cast<int>(members.size()); }
  void wait() { barrier.wait(); }
  double largest_change() const {
    double largest = 0;
    for (const Member& member : members) largest = larger(largest, member.change);
    return largest;
  }
  // The k-th member's part of 0 ... n - 1.
  std::pair<int, int> share(int n, int k) const {
    const int64_t size64 = size();
    return {static_cast<int>(n * int64_t{k} / size64),
            static_cast<int>(n * int64_t{k + 1} / size64)};
  }
};

}  // namespace kspike
