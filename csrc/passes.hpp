// SPDX-License-Identifier: MIT
// The two passes of the fused ADMM iteration over one image; admm.hpp strings them together.
// Meaning: kspike/reference.py.
//
//   column pass   h <- IFFT_rows((FFT_rows(h) + data) / (N (M / rho + K)))       tiles of W columns
//   row pass      x = IFFT_cols(h);  w, f <- stencil(w, D x);  h <- FFT_cols(D* f)    groups of W
//   rows
//
// h, the half-transformed spectrum, lies in tiles of W columns: [tile][row][W re | W im]. The state
// w lies in groups of W rows: [group][column][4 parts][W]. Both passes are W transforms side by
// side (fft.hpp) with a W x W transpose between them, and in the row pass the stencil is arithmetic
// between neighbouring vectors: right is the next vector, down the next lane. Frequencies stay in
// the order in which the transforms leave them; mask, symbol and data are stored to match, and the
// centring of F is a phase on the m samples: nothing is ever shifted or reordered.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <new>
#include <tuple>
#include <vector>

#include "fft.hpp"
#include "scalar.hpp"
#include "threads.hpp"

namespace kspike {

// Zeroed memory for vectors, on huge pages where it is large and the system has them: a group of
// rows touches every tile.
template <class T>
class Aligned {
 public:
  Aligned() = default;
  explicit Aligned(size_t n)
      : size_(n), p_(static_cast<T*>(::operator new(bytes(n), alignment(n)))) {
#if defined(MADV_HUGEPAGE)
    if (is_large(n)) madvise(p_, bytes(n), MADV_HUGEPAGE);
#endif
    clear();
  }
  Aligned(const Aligned& other) : Aligned(other.size_) { std::copy_n(other.p_, size_, p_); }
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
    std::swap(p_, other.p_);
  }
  size_t size_ = 0;
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
  std::vector<char> rhs_rows;    // groups in which the right-hand side is not zero

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

template <class T, int W>
class Passes {
 public:
  using S = Simd<T, W>;
  using V = typename S::V;
  using Bits = typename S::Bits;
  using Bits4 = typename S::Bits4;
  using Element = Complex<V>;
  static constexpr int E = 2 * W;  // numbers per element

  Passes(const bool* mask, int rows, int cols)
      : rows_(rows),
        cols_(cols),
        tiles_((cols + W - 1) / W),
        groups_((rows + W - 1) / W),
        pitch_(static_cast<size_t>(groups_ * W + 1) *
               E),  // one row more, so that tiles do not share sets of the cache
        down_(rows),
        along_(cols),
        bits_(static_cast<size_t>(tiles_) * rows),
        first_(tiles_ + 1),
        symbol_rows_(rows),
        symbol_cols_(static_cast<size_t>(tiles_) * W) {
    auto symbol = [this](int k, int n) {
      const double half =
          root(k, 2 * int64_t{n}).im;  // 2 - 2 cos a = 4 sin(a / 2)^2, exact for small a
      return static_cast<T>(4 * pixels() * half * half);
    };
    std::vector<int64_t> sample(static_cast<size_t>(rows) * cols, -1);
    for (size_t i = 0; i < sample.size(); ++i)
      if (mask[i]) sample[i] = samples_++;
    mean_sampled_ = mask[static_cast<size_t>(rows / 2) * cols + cols / 2];
    for (int p = 0; p < rows; ++p) symbol_rows_.data()[p] = symbol(down_.order()[p], rows);
    for (int c = 0; c < tiles_; ++c) {
      first_[c] = static_cast<int64_t>(source_.size());
      for (int q = c * W; q < (c + 1) * W; ++q)  // past the last column the diagonal is zero
        symbol_cols_.data()[q] = q < cols ? symbol(along_.order()[q], cols) : T(1e30);
      for (int p = 0; p < rows; ++p)
        for (int l = 0; l < W && c * W + l < cols; ++l) {
          const int kr = down_.order()[p], kc = along_.order()[c * W + l];
          const size_t at =
              static_cast<size_t>((kr + rows / 2) % rows) * cols + (kc + cols / 2) % cols;
          // Where neither the mask nor the symbol holds the mean of x, a sample of value zero does.
          if (!mask[at] && (kr || kc)) continue;
          bits_[static_cast<size_t>(c) * rows + p] |= static_cast<Bits>(1u << l);
          source_.push_back(sample[at]);
          const int64_t turn_rows = int64_t{kr} * (rows / 2) % rows,
                        turn_cols = int64_t{kc} * (cols / 2) % cols;
          const Complex<double> phase =
              root(turn_rows * cols + turn_cols * rows, int64_t{rows} * cols);
          phase_.push_back(static_cast<T>(phase.re));
          phase_.push_back(static_cast<T>(phase.im));
        }
    }
    first_[tiles_] = static_cast<int64_t>(source_.size());
  }

  int rows() const { return rows_; }
  int cols() const { return cols_; }
  int tiles() const { return tiles_; }
  int groups() const { return groups_; }
  double pixels() const { return static_cast<double>(rows_) * cols_; }
  int64_t samples() const { return samples_; }
  bool mean_sampled() const { return mean_sampled_; }
  size_t spectrum_size() const { return tiles_ * pitch_; }
  size_t field_size() const { return steps() * 4 * W; }
  size_t data_size() const { return 2 * source_.size(); }
  size_t steps() const {
    return static_cast<size_t>(groups_) * cols_;
  }  // Bits4 per step of the tape

  void prepare(Team<T>& team) const {
    for (auto& member : team.members) {
      for (Aligned<T>& group : member.rows)
        group = Aligned<T>((static_cast<size_t>(tiles_) * W + 1) * E);
      for (Aligned<T>* row : {&member.above, &member.first_x, &member.last_f})
        *row = Aligned<T>(2 * static_cast<size_t>(cols_));
      member.transform = Aligned<T>(std::max(down_.scratch(), along_.scratch()));
    }
    team.data = Aligned<T>(data_size());
    team.rhs_rows.resize(groups_);
  }

  // --- samples and columns
  // --------------------------------------------------------------------------------------------

  // The samples y, in the order the column pass meets them and scaled for it: sqrt(N) / rho P* y.
  void load_data(const T* y, double rho, T* data) const {
    const T scale = static_cast<T>(std::sqrt(pixels()) / rho);
    int64_t s = 0;
    for (const Bits bits : bits_) {
      const int n = std::popcount(bits);
      for (int i = 0; i < n; ++i, ++s) {
        const Complex<T> value =
            source_[s] < 0 ? Complex<T>{0, 0} : unphased(y + 2 * source_[s], s);
        data[2 * s - i] = scale * value.re;
        data[2 * s - i + n] = scale * value.im;
      }
    }
  }
  // A tile of the full transform <-> the samples in it, times a scale.
  void gather(int c, const T* tile, T scale, T* y) const {
    int64_t s = first_[c];
    for (int p = 0; p < rows_; ++p, tile += E)
      for (unsigned bits = bits_[static_cast<size_t>(c) * rows_ + p]; bits; bits &= bits - 1, ++s) {
        if (source_[s] < 0) continue;
        const int l = std::countr_zero(bits);
        const Complex<T> value =
            rotate<1>(Complex<T>{tile[l], tile[l + W]}, phase_[2 * s], phase_[2 * s + 1]);
        y[2 * source_[s]] = scale * value.re;
        y[2 * source_[s] + 1] = scale * value.im;
      }
  }
  void scatter(int c, const T* y, T scale, T* tile) const {
    std::fill_n(tile, static_cast<size_t>(rows_) * E, T(0));
    int64_t s = first_[c];
    for (int p = 0; p < rows_; ++p, tile += E)
      for (unsigned bits = bits_[static_cast<size_t>(c) * rows_ + p]; bits; bits &= bits - 1, ++s) {
        if (source_[s] < 0) continue;
        const int l = std::countr_zero(bits);
        const Complex<T> value = unphased(y + 2 * source_[s], s);
        tile[l] = scale * value.re;
        tile[l + W] = scale * value.im;
      }
  }

  enum class Data { kNone, kSamples, kTotal };

  // One tile: h <- IFFT((FFT(h) + data) / (N (M / rho + K))); with kTotal, also total <- total +
  // the quotient.
  template <Data D>
  void column_pass(int c, T* h, double rho, const T* data, T* total, T* scratch) const {
    Diagonal<D> op{symbol_rows_.data(),
                   S::load(symbol_cols_.data() + c * W),
                   S::all(static_cast<T>(pixels() / rho)),
                   bits_.data() + static_cast<size_t>(c) * rows_,
                   D == Data::kSamples ? data + 2 * first_[c] : nullptr,
                   D == Data::kTotal ? total + c * pitch_ : nullptr};
    down_.fused(h + c * pitch_, scratch, op);
  }
  void columns_forward(int c, T* h, T* scratch) const { down_.forward(h + c * pitch_, scratch); }
  void columns_inverse(int c, T* h, T* scratch) const { down_.inverse(h + c * pitch_, scratch); }
  T* tile(T* h, int c) const { return h + c * pitch_; }

  // --- rows
  // -----------------------------------------------------------------------------------------------------------

  // h <- FFT_cols(image), and image <- scale IFFT_cols(h), on the k-th member's groups.
  void rows_forward(const T* image, T* h, Team<T>& team, int k) const {
    auto& member = team.members[k];
    for (auto [g, end] = team.share(groups_, k); g < end; ++g) {
      read_image<false>(image, T(1), g, member.rows[0].data());
      to_spectrum(g, member.rows[0].data(), h, member.transform.data());
    }
  }
  void rows_inverse(const T* h, T* image, T scale, Team<T>& team, int k) const {
    auto& member = team.members[k];
    for (auto [g, end] = team.share(groups_, k); g < end; ++g) {
      from_spectrum(g, h, member.rows[0].data(), member.transform.data());
      write_image<false>(g, member.rows[0].data(), scale, image);
    }
  }

  // Writes scale x to `image`, interleaved, when x is at hand; measures its change since the last
  // time on request.
  struct Output {
    T* image = nullptr;
    T scale = 1;
    bool compare = false;
  };
  // Adds scale g to D* f where g is not zero.
  struct Input {
    const T* image = nullptr;
    T scale = 1;
  };

  // The row pass on the k-th member's band of groups. `stencil(at, d, f)` turns the four parts d of
  // D x at element `at` of the state into those of f, updating the state where its argument
  // `kStore` is set; without kImage there is no x, only f.
  template <bool kImage, class Stencil>
  void row_pass(T* h, const Stencil& stencil, Team<T>& team, int k, Output output = {},
                Input input = {}) const {
    auto& me = team.members[k];
    const auto [first, end] = team.share(groups_, k);
    T* here = me.rows[0].data();
    T* below = me.rows[1].data();
    me.change = 0;
    if (kImage) {
      from_spectrum(first, h, here, me.transform.data());
      for (int j = 0; j < cols_; ++j) {
        me.first_x.data()[2 * j] = here[j * E];
        me.first_x.data()[2 * j + 1] = here[j * E + W];
      }
      team.wait();
    }
    const T* next_band = team.members[(k + 1) % team.size()].first_x.data();
    me.above.clear();
    for (int g = first; g < end; ++g) {
      const bool last = g + 1 == end;
      if (kImage) {
        if (output.image) {
          if (output.compare)
            me.change = larger(me.change, write_image<true>(g, here, output.scale, output.image));
          else
            write_image<false>(g, here, output.scale, output.image);
        }
        if (!last) from_spectrum(g + 1, h, below, me.transform.data());
      }
      if (rows_ - g * W >= W)
        stencil_pass<kImage, true>(g, here, last ? next_band : below, last ? 2 : E, last ? 1 : W,
                                   me.above.data(), stencil);
      else
        stencil_pass<kImage, false>(g, here, next_band, 2, 1, me.above.data(), stencil);
      if (g == first) {  // waits for f of the row above the band
        here = me.rows[2].data();
      } else {
        if (input.image && team.rhs_rows[g]) read_image<true>(input.image, input.scale, g, here);
        to_spectrum(g, here, h, me.transform.data());
      }
      std::swap(here, below);
    }
    std::copy_n(me.above.data(), 2 * static_cast<size_t>(cols_), me.last_f.data());
    team.wait();
    const T* row_above = team.members[(k + team.size() - 1) % team.size()].last_f.data();
    T* held = me.rows[0].data();
    for (int j = 0; j < cols_; ++j) {
      held[j * E] += row_above[2 * j];
      held[j * E + W] += row_above[2 * j + 1];
    }
    if (input.image && team.rhs_rows[first])
      read_image<true>(input.image, input.scale, first, held);
    to_spectrum(first, held, h, me.transform.data());
  }

  // Which groups of rows hold anything but zeros.
  void find_rhs_rows(const T* image, std::vector<char>& found) const {
    for (int g = 0; g < groups_; ++g) {
      const T* from = image + static_cast<size_t>(g) * W * cols_ * 2;
      const T* to = image + static_cast<size_t>(std::min(rows_, (g + 1) * W)) * cols_ * 2;
      found[g] = std::any_of(from, to, [](T v) { return v != 0; });
    }
  }

  // f(position in the grouped state, position in the natural field) for every number of w, (2,
  // rows, cols) complex.
  template <class F>
  void for_field(F&& f) const {
    for (int channel = 0; channel < 2; ++channel)
      for (int i = 0; i < rows_; ++i)
        for (int j = 0; j < cols_; ++j)
          for (int part = 0; part < 2; ++part)
            f(((static_cast<size_t>(i / W) * cols_ + j) * 4 + 2 * channel + part) * W + i % W,
              ((static_cast<size_t>(channel) * rows_ + i) * cols_ + j) * 2 + part);
  }

 private:
  Complex<T> unphased(const T* y, int64_t s) const {
    return rotate<-1>(Complex<T>{y[0], y[1]}, phase_[2 * s], phase_[2 * s + 1]);
  }

  template <Data D>
  struct Diagonal {
    const T* symbol;  // N K of the rows
    V symbol_cols, sampled;
    const Bits* bits;
    const T* data;
    T* total;
    KSPIKE_INLINE void operator()(Element& v) {
      const unsigned on = *bits++;
      const V inverse = S::reciprocal(*symbol++ + symbol_cols + S::keep(on, sampled));
      if constexpr (D == Data::kSamples) {
        const int n = std::popcount(on);
        v.re += S::expand(on, data);
        v.im += S::expand(on, data + n);
        data += 2 * n;
      }
      v.re *= inverse;
      v.im *= inverse;
      if constexpr (D == Data::kTotal) {
        S::store(total, S::load(total) + v.re);
        S::store(total + W, S::load(total + W) + v.im);
        total += E;
      }
    }
  };

  // Group g of h: transpose, transform; and back.
  void from_spectrum(int g, const T* h, T* x, T* scratch) const {
    for (int c = 0; c < tiles_; ++c) {
      const T* block = h + c * pitch_ + static_cast<size_t>(g) * W * E;
      V re[W], im[W];
#pragma GCC unroll 16
      for (int r = 0; r < W; ++r) re[r] = S::load(block + r * E);
      S::transpose(re);
#pragma GCC unroll 16
      for (int l = 0; l < W; ++l) S::store(x + (c * W + l) * E, re[l]);
#pragma GCC unroll 16
      for (int r = 0; r < W; ++r) im[r] = S::load(block + r * E + W);
      S::transpose(im);
#pragma GCC unroll 16
      for (int l = 0; l < W; ++l) S::store(x + (c * W + l) * E + W, im[l]);
    }
    along_.inverse(x, scratch);
  }
  void to_spectrum(int g, T* x, T* h, T* scratch) const {
    along_.forward(x, scratch);
    for (int c = 0; c < tiles_; ++c) {
      T* block = h + c * pitch_ + static_cast<size_t>(g) * W * E;
      V re[W], im[W];
#pragma GCC unroll 16
      for (int l = 0; l < W; ++l) re[l] = S::load(x + (c * W + l) * E);
      S::transpose(re);
#pragma GCC unroll 16
      for (int r = 0; r < W; ++r) S::store(block + r * E, re[r]);
#pragma GCC unroll 16
      for (int l = 0; l < W; ++l) im[l] = S::load(x + (c * W + l) * E + W);
      S::transpose(im);
#pragma GCC unroll 16
      for (int r = 0; r < W; ++r) S::store(block + r * E + W, im[r]);
    }
  }

  // Group g of an interleaved image (rows, cols) <-> vectors over its rows, in blocks of W x W
  // pixels; what a block lacks of those, at the last rows and columns, a copy of it has as zeros.
  template <bool kAdd>
  void read_image(const T* image, T scale, int g, T* x) const {
    const int height = std::min(W, rows_ - g * W);
    for (int c = 0; c < tiles_; ++c) {
      const int width = std::min(W, cols_ - c * W);
      const T* from = image + (static_cast<size_t>(g) * W * cols_ + c * W) * 2;
      size_t step = 2 * static_cast<size_t>(cols_);
      T copy[W * E];
      if (height < W || width < W) {
        std::fill_n(copy, W * E, T(0));
        for (int r = 0; r < height; ++r) std::copy_n(from + r * step, 2 * width, copy + r * E);
        from = copy;
        step = E;
      }
      V re[W], im[W];
#pragma GCC unroll 16
      for (int r = 0; r < W; ++r) S::load_complex(from + r * step, re[r], im[r]);
      S::transpose(re);
      S::transpose(im);
#pragma GCC unroll 16
      for (int l = 0; l < W; ++l) {
        T* at = x + (c * W + l) * E;
        S::store(at, kAdd ? S::load(at) + scale * re[l] : scale * re[l]);
        S::store(at + W, kAdd ? S::load(at + W) + scale * im[l] : scale * im[l]);
      }
    }
  }
  template <bool kCompare>  // returns the largest change of a part
  double write_image(int g, const T* x, T scale, T* image) const {
    const int height = std::min(W, rows_ - g * W);
    V moved{};
    for (int c = 0; c < tiles_; ++c) {
      const int width = std::min(W, cols_ - c * W);
      const bool whole = height == W && width == W;
      T* const to = image + (static_cast<size_t>(g) * W * cols_ + c * W) * 2;
      const size_t line = 2 * static_cast<size_t>(cols_);
      V re[W], im[W];
#pragma GCC unroll 16
      for (int l = 0; l < W; ++l) {
        re[l] = scale * S::load(x + (c * W + l) * E);
        im[l] = scale * S::load(x + (c * W + l) * E + W);
      }
      S::transpose(re);
      S::transpose(im);
      T copy[W * E];
      if (kCompare && !whole)
        for (int r = 0; r < height; ++r) std::copy_n(to + r * line, 2 * width, copy + r * E);
      T* const p = whole ? to : copy;
      const size_t step = whole ? line : E;
      for (int r = 0; kCompare && r < height; ++r) {
        V old_re, old_im;
        S::load_complex(p + r * step, old_re, old_im);
        const V inside = width == W ? S::all(1) : S::keep((1u << width) - 1, S::all(1));
        moved = S::larger(moved, S::modulus(inside * (re[r] - old_re)));
        moved = S::larger(moved, S::modulus(inside * (im[r] - old_im)));
      }
#pragma GCC unroll 16
      for (int r = 0; r < W; ++r)
        if (whole || r < height) S::store_complex(p + r * step, re[r], im[r]);
      if (!whole)
        for (int r = 0; r < height; ++r) std::copy_n(copy + r * E, 2 * width, to + r * line);
    }
    double largest = 0;
    for (int l = 0; l < W; ++l) largest = larger(largest, static_cast<double>(moved[l]));
    return largest;
  }

  // x -> f -> D* f in place on group g. Lane 0 of the row below the group is at below[j * step]
  // and, imaginary, below[j * step + imaginary]; `above` holds f of the row above it and receives f
  // of its last row.
  template <bool kImage, bool kFull, class Stencil>
  KSPIKE_INLINE void stencil_pass(int g, T* x, const T* below, int step, int imaginary, T* above,
                                  Stencil stencil) const {
    const int height = kFull ? W : rows_ - g * W;
    if (kImage && !kFull)  // the row below the last one stands in the next lane
      for (int j = 0; j < cols_; ++j) {
        x[j * E + height] = below[2 * j];
        x[j * E + W + height] = below[2 * j + 1];
      }
    const size_t at = static_cast<size_t>(g) * cols_;
    V d[4] = {}, f[4];
    auto difference = [&](int j, Element here, Element right) {
      d[0] = S::shift_down(here.re, kFull ? below[j * step] : T(0)) - here.re;
      d[1] = S::shift_down(here.im, kFull ? below[j * step + imaginary] : T(0)) - here.im;
      d[2] = right.re - here.re;
      d[3] = right.im - here.im;
    };
    const int last = cols_ - 1;
    if (kImage) {
      S::store(x + cols_ * E, S::load(x));
      S::store(x + cols_ * E + W, S::load(x + W));
      difference(last, element(x + last * E), element(x + cols_ * E));
    }
    stencil.template run<false>(at + last, d, f);
    V left_re = f[2], left_im = f[3];
    Element here = element(x);
    for (int j = 0; j < cols_; ++j) {
      if (kImage) {
        const Element right = element(x + (j + 1) * E);
        difference(j, here, right);
        here = right;
      }
      stencil.template run<true>(at + j, d, f);
      // In this order, so that a first group, whose row above is added at the end, rounds like any
      // other.
      S::store(x + j * E, ((left_re - f[2]) - f[0]) + S::shift_up(f[0], above[2 * j]));
      S::store(x + j * E + W, ((left_im - f[3]) - f[1]) + S::shift_up(f[1], above[2 * j + 1]));
      above[2 * j] = f[0][kFull ? W - 1 : height - 1];
      above[2 * j + 1] = f[1][kFull ? W - 1 : height - 1];
      left_re = f[2];
      left_im = f[3];
    }
  }
  static KSPIKE_INLINE Element element(const T* p) { return {S::load(p), S::load(p + W)}; }

  int rows_, cols_, tiles_, groups_;
  size_t pitch_;
  Fft<T, W> down_, along_;
  std::vector<Bits> bits_;       // sampled frequencies, one bit per lane: [tile][row]
  std::vector<int64_t> first_;   // how many of them stand before each tile
  std::vector<int64_t> source_;  // which sample each is, -1 for the mean when it is not sampled
  std::vector<T>
      phase_;  // exp(2 pi i (k_rows (rows / 2) / rows + k_cols (cols / 2) / cols)): the centring
  Aligned<T> symbol_rows_, symbol_cols_;  // N K
  int64_t samples_ = 0;
  bool mean_sampled_ = false;
};

// --- the stencils: what happens to the four parts of one gradient pixel
// ----------------------------------------------

// f = w - 2 clip(w), with the state as it is.
template <class T, int W>
struct Reflect {
  using S = Simd<T, W>;
  const T* w;
  typename S::V t;
  template <bool kStore>
  KSPIKE_INLINE void run(size_t at, const typename S::V*, typename S::V* f) const {
    for (int p = 0; p < 4; ++p) f[p] = reflect(S::load(w + (4 * at + p) * W), t);
  }
};

// |w| > t for the four parts of a pixel, W pixels at a time.
template <class T, int W>
KSPIKE_INLINE typename Simd<T, W>::Bits4 support4(const T* w, typename Simd<T, W>::V t) {
  using S = Simd<T, W>;
  uint64_t bits = 0;
#pragma GCC unroll 4
  for (int p = 0; p < 4; ++p) bits |= uint64_t{S::bits(support(S::load(w + p * W), t))} << (p * W);
  return static_cast<typename S::Bits4>(bits);
}

// w <- w + relax (D x - shrink(w)), f = w - 2 clip(w); the support of the old w goes to the tape.
template <class T, int W, bool kTape>
struct Update {
  using S = Simd<T, W>;
  T* w;
  typename S::V t, relax;
  typename S::Bits4* tape;
  template <bool kStore>
  KSPIKE_INLINE void run(size_t at, const typename S::V* d, typename S::V* f) const {
    if constexpr (kTape && kStore) tape[at] = support4<T, W>(w + 4 * at * W, t);
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      const typename S::V next = shrink_update(S::load(w + (4 * at + p) * W), d[p], t, relax);
      f[p] = reflect(next, t);
      if constexpr (kStore) S::store(w + (4 * at + p) * W, next);
    }
  }
};

// f = (2 S - 1) dw, with the tangent state as it is.
template <class T, int W>
struct ReflectTangent {
  using S = Simd<T, W>;
  const T* dw;
  const typename S::Bits4* tape;
  template <bool kStore>
  KSPIKE_INLINE void run(size_t at, const typename S::V*, typename S::V* f) const {
    for (int p = 0; p < 4; ++p)
      f[p] = reflect_tangent(S::load(dw + (4 * at + p) * W), S::part(tape[at], p));
  }
};

// dw <- dw + relax (D dx - S dw), f = (2 S - 1) dw.
template <class T, int W>
struct UpdateTangent {
  using S = Simd<T, W>;
  T* dw;
  typename S::V relax;
  const typename S::Bits4* tape;
  template <bool kStore>
  KSPIKE_INLINE void run(size_t at, const typename S::V* d, typename S::V* f) const {
    const typename S::Bits4 bits = tape[at];
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      const auto on = S::part(bits, p);
      const typename S::V next =
          shrink_update_tangent(S::load(dw + (4 * at + p) * W), d[p], on, relax);
      f[p] = reflect_tangent(next, on);
      if constexpr (kStore) S::store(dw + (4 * at + p) * W, next);
    }
  }
};

// g <- g - relax S g + rho (2 S - 1) D r, f = relax g; here d = rho D r.
template <class T, int W>
struct UpdateAdjoint {
  using S = Simd<T, W>;
  T* g;
  typename S::V relax;
  const typename S::Bits4* tape;
  template <bool kStore>
  KSPIKE_INLINE void run(size_t at, const typename S::V* d, typename S::V* f) const {
    const typename S::Bits4 bits = tape[at];
#pragma GCC unroll 4
    for (int p = 0; p < 4; ++p) {
      const typename S::V next = shrink_update_adjoint(S::load(g + (4 * at + p) * W), d[p],
                                                       S::part(bits, p), relax, S::all(1));
      f[p] = relax * next;
      if constexpr (kStore) S::store(g + (4 * at + p) * W, next);
    }
  }
};

}  // namespace kspike
