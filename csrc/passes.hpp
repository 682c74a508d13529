// SPDX-License-Identifier: MIT
// The two passes of the fused ADMM iteration over one image; admm.hpp strings them together.
// Meaning: kspike/reference.py.
//
//   column pass   h <- IFFT_rows(gain (FFT_rows(h) + data) / (N (M / rho + K)))    tile by tile
//   row pass      x = IFFT_cols(h);  w, f <- stencil(w, D x);  h <- FFT_cols(D* f)   group by group
//
// A gain of relax makes D x the step of the state, with no multiplication of its own.
//
// h, the half-transformed spectrum, lies in tiles of W columns: [tile][row][W re | W im]. The state
// w lies in groups of W rows: [group][column][4 parts][W]. Both passes are W transforms side by
// side (fft.hpp) with a W x W transpose between them, and in the row pass the stencil is arithmetic
// between neighbouring vectors: right is the next vector, down the next lane. Frequencies stay in
// the order in which the transforms leave them; mask, symbol and data are stored to match, and the
// centring of F is a phase on the m samples: nothing is ever shifted or reordered.
#pragma once

#include <bit>

#include "fft.hpp"
#include "scalar.hpp"
#include "team.hpp"

namespace kspike {

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
        first_slot_(tiles_ + 1),
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
      int64_t slot = first_slot_[c];
      for (int q = c * W; q < (c + 1) * W; ++q)  // past the last column the diagonal is zero
        symbol_cols_.data()[q] = q < cols ? symbol(along_.order()[q], cols) : T(1e30);
      for (int p = 0; p < rows; ++p) {
        const int64_t begin = static_cast<int64_t>(source_.size());
        for (int l = 0; l < W && c * W + l < cols; ++l) {
          const int kr = down_.order()[p], kc = along_.order()[c * W + l];
          const size_t at =
              static_cast<size_t>((kr + rows / 2) % rows) * cols + (kc + cols / 2) % cols;
          // Where neither the mask nor the symbol holds the mean of x, a sample of value zero does.
          if (!mask[at] && (kr || kc)) continue;
          bits_[static_cast<size_t>(c) * rows + p] |= static_cast<Bits>(1u << l);
          place_.push_back(p * E + l);
          slot_.push_back(static_cast<int32_t>(slot - first_slot_[c]) * E + l);
          if (!mask[at]) mean_ = static_cast<int64_t>(source_.size());
          source_.push_back(mask[at] ? sample[at] : 0);
          const int64_t turn_rows = int64_t{kr} * (rows / 2) % rows,
                        turn_cols = int64_t{kc} * (cols / 2) % cols;
          const Complex<double> phase =
              root(turn_rows * cols + turn_cols * rows, int64_t{rows} * cols);
          phase_.push_back(static_cast<T>(phase.re));
          phase_.push_back(static_cast<T>(phase.im));
        }
        const int64_t end = static_cast<int64_t>(source_.size());
        for (int64_t i = begin; i < end; ++i) {
          packed_.push_back(static_cast<int32_t>(begin + i));
          packed_.push_back(static_cast<int32_t>(end + i));
        }
        slot += end > begin;
      }
      first_slot_[c + 1] = slot + 1;  // one behind the last, where the pass ends up
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
  // A spectrum. The processor, seeing blocks one pitch apart, fetches one more behind the last:
  // that must not be where another thread is at work on its image.
  Aligned<T> spectrum() const { return Aligned<T>(tiles_ * pitch_, pitch_); }
  size_t field_size() const { return steps() * 4 * W; }
  size_t rhs_size() const { return groups_ * group_size(); }
  size_t data_size() const { return 2 * source_.size(); }
  size_t total_size() const { return static_cast<size_t>(first_slot_[tiles_]) * E; }
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
    each_sample(0, tiles_, [&](int64_t s) {
      const Complex<T> value = unphased(y, s);
      data[packed_[2 * s]] = scale * value.re;
      data[packed_[2 * s + 1]] = scale * value.im;
    });
    if (mean_ >= 0) data[packed_[2 * mean_]] = data[packed_[2 * mean_ + 1]] = 0;
  }
  // A tile of the full transform <-> the samples in it, times a scale; and the same from a total.
  void gather(int c, const T* h, T scale, T* y) const {
    gather(c, h + c * pitch_, place_.data(), scale, y);
  }
  void gather_total(int c, const T* total, T scale, T* y) const {
    gather(c, total + first_slot_[c] * E, slot_.data(), scale, y);
  }
  void scatter(int c, const T* y, T scale, T* h) const {
    T* const tile = h + c * pitch_;
    std::fill_n(tile, static_cast<size_t>(rows_) * E, T(0));
    each_sample(c, c + 1, [&](int64_t s) {
      if (s == mean_) return;
      const Complex<T> value = unphased(y, s);
      tile[place_[s]] = scale * value.re;
      tile[place_[s] + W] = scale * value.im;
    });
  }

  enum class Data { kNone, kSamples, kTotal };

  // One tile: h <- IFFT(gain (FFT(h) + data) / (N (M / rho + K))); with kTotal, also total <- total
  // + the quotient, which is kept for those elements that hold a sample.
  template <Data D>
  void column_pass(int c, T* h, double rho, double gain, const T* data, T* total,
                   T* scratch) const {
    const T loss = static_cast<T>(1 / gain);
    Diagonal<D> op{symbol_rows_.data(),
                   S::all(loss),
                   loss * S::load(symbol_cols_.data() + c * W),
                   S::all(static_cast<T>(pixels() / rho / gain)),
                   bits_.data() + static_cast<size_t>(c) * rows_,
                   D == Data::kSamples ? data + 2 * first_[c] : nullptr,
                   D == Data::kTotal ? total + first_slot_[c] * E : nullptr};
    down_.fused(h + c * pitch_, scratch, op);
  }
  void columns_forward(int c, T* h, T* scratch) const { down_.forward(h + c * pitch_, scratch); }
  void columns_inverse(int c, T* h, T* scratch) const { down_.inverse(h + c * pitch_, scratch); }

  // --- rows
  // -----------------------------------------------------------------------------------------------------------

  // h <- FFT_cols(scale image), and image <- scale IFFT_cols(h), on the k-th member's groups.
  void rows_forward(const T* image, T scale, T* h, Team<T>& team, int k) const {
    auto& member = team.members[k];
    for (auto [g, end] = team.share(groups_, k); g < end; ++g) {
      read(image, g, scale, member.rows[0].data(), E, W);
      to_spectrum(g, member.rows[0].data(), h, member.transform.data());
    }
  }
  void rows_inverse(const T* h, T* image, T scale, Team<T>& team, int k) const {
    auto& member = team.members[k];
    for (auto [g, end] = team.share(groups_, k); g < end; ++g) {
      from_spectrum(g, h, member.rows[0].data(), member.transform.data());
      write<false>(g, member.rows[0].data(), E, W, scale, image);
    }
  }

  // Writes scale x to `image`, interleaved, when x is at hand; measures its change since the last
  // time on request.
  struct Output {
    T* image = nullptr;
    T scale = 1;
    bool compare = false;
  };
  // Keeps scale image as the right-hand side that row_pass adds to D* f, on the k-th member's
  // groups.
  void load_rhs(const T* image, T scale, Team<T>& team, int k) const {
    for (auto [g, end] = team.share(groups_, k); g < end; ++g) {
      const size_t line = 2 * static_cast<size_t>(cols_);
      team.rhs_rows[g] = any(image + g * W * line, std::min(W, rows_ - g * W) * line);
      if (team.rhs_rows[g]) read(image, g, scale, team.rhs.data() + g * group_size(), E, W);
    }
  }

  // What a row pass does beside advancing the state: no image when there is no x yet, only f; no
  // spectrum after the last step, when nobody asks for f any more; with kRhs, the team's right-hand
  // side is added to D* f.
  enum Parts { kImage = 1, kSpectrum = 2, kRhs = 4 };

  // The row pass on the k-th member's band of groups. `stencil(at, step, f)` turns the four parts
  // of D x at element `at` of the state into those of f, updating the state where its argument
  // `kStore` is set.
  template <int P, class Stencil>
  void row_pass(T* h, const Stencil& stencil, Team<T>& team, int k, Output output = {}) const {
    auto& me = team.members[k];
    const auto [first, end] = team.share(groups_, k);
    T* here = me.rows[0].data();
    T* below = me.rows[1].data();
    me.change = 0;
    if (P & kImage) {
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
      if (P & kImage) {
        if (output.image) {
          if (output.compare)
            me.change = larger(me.change, write<true>(g, here, E, W, output.scale, output.image));
          else
            write<false>(g, here, E, W, output.scale, output.image);
        }
        if (!last) from_spectrum(g + 1, h, below, me.transform.data());
      }
      const T* const more = g > first ? right_hand_side<P>(g, team) : nullptr;
      if (rows_ - g * W >= W)
        stencil_pass<P, true>(g, here, last ? next_band : below, last ? 2 : E, last ? 1 : W,
                              me.above.data(), more, block(h, 0, std::min(g + 2, end - 1)),
                              stencil);
      else
        stencil_pass<P, false>(g, here, next_band, 2, 1, me.above.data(), more, block(h, 0, g),
                               stencil);
      if (P & kSpectrum) {
        if (g == first)  // waits for f of the row above the band
          here = me.rows[2].data();
        else
          to_spectrum(g, here, h, me.transform.data());
      }
      std::swap(here, below);
    }
    if (!(P & kSpectrum)) return;
    std::copy_n(me.above.data(), 2 * static_cast<size_t>(cols_), me.last_f.data());
    team.wait();
    const T* row_above = team.members[(k + team.size() - 1) % team.size()].last_f.data();
    T* held = me.rows[0].data();
    for (int j = 0; j < cols_; ++j) {
      held[j * E] += row_above[2 * j];
      held[j * E + W] += row_above[2 * j + 1];
    }
    if (const T* more = right_hand_side<P>(first, team))
      for (size_t i = 0; i < static_cast<size_t>(cols_) * E; i += W)
        S::store(held + i, S::load(held + i) + S::load(more + i));
    to_spectrum(first, held, h, me.transform.data());
  }

  // A field w, (2, rows, cols) complex, <-> the grouped state.
  void load_field(const T* w, T* state) const {
    each_channel([&](int g, size_t in_state, size_t in_field) {
      read(w + in_field, g, T(1), state + in_state, 4 * W, W, true);
    });
  }
  void store_field(const T* state, T* w) const {
    each_channel([&](int g, size_t in_state, size_t in_field) {
      write<false>(g, state + in_state, 4 * W, W, T(1), w + in_field);
    });
  }

 private:
  template <class F>
  void each_sample(int tile, int end, F&& f) const {
    if (samples_ == 0) return;
    for (int64_t s = first_[tile]; s < first_[end]; ++s) f(s);
  }
  void gather(int c, const T* tile, const int32_t* place, T scale, T* y) const {
    each_sample(c, c + 1, [&](int64_t s) {
      const T* at = tile + place[s];
      const Complex<T> value =
          rotate<1>(Complex<T>{at[0], at[W]}, phase_[2 * s], phase_[2 * s + 1]);
      if (s == mean_) return;
      y[2 * source_[s]] = scale * value.re;
      y[2 * source_[s] + 1] = scale * value.im;
    });
  }
  Complex<T> unphased(const T* y, int64_t s) const {
    return rotate<-1>(Complex<T>{y[2 * source_[s]], y[2 * source_[s] + 1]}, phase_[2 * s],
                      phase_[2 * s + 1]);
  }
  template <class F>
  void each_channel(F&& f) const {
    for (int g = 0; g < groups_; ++g)
      for (int channel = 0; channel < 2; ++channel)
        f(g, static_cast<size_t>(g) * cols_ * 4 * W + 2 * channel * W,
          2 * static_cast<size_t>(channel) * rows_ * cols_);
  }
  // Whether any of n numbers is not zero.
  static bool any(const T* p, size_t n) {
    typename S::On found{};
    size_t i = 0;
    for (; i + W <= n; i += W) found |= S::load_unaligned(p + i) != 0;
    return S::bits(found) || std::any_of(p + i, p + n, [](T v) { return v != 0; });
  }
  size_t group_size() const { return static_cast<size_t>(tiles_) * W * E; }
  // What to add to D* f in group g, if anything.
  template <int P>
  const T* right_hand_side(int g, const Team<T>& team) const {
    return (P & kRhs) && team.rhs_rows[g] ? team.rhs.data() + g * group_size() : nullptr;
  }

  template <Data D>
  struct Diagonal {
    const T* symbol;               // N K of the rows
    V loss, symbol_cols, sampled;  // 1 / gain, and the others divided by the gain
    const Bits* bits;
    const T* data;
    T* total;
    KSPIKE_INLINE void operator()(Element& v) {
      const unsigned on = *bits++;
      const V inverse = S::reciprocal(*symbol++ * loss + symbol_cols + S::keep(on, sampled));
      if constexpr (D == Data::kSamples) {
        const int n = std::popcount(on);
        v.re += S::expand(on, data);
        v.im += S::expand(on, data + n);
        data += 2 * n;
      }
      v.re *= inverse;
      v.im *= inverse;
      if constexpr (D == Data::kTotal) {
        S::store(total, S::load(total) + S::keep(on, v.re));
        S::store(total + W, S::load(total + W) + S::keep(on, v.im));
        total += on ? E : 0;
      }
    }
  };

  // Group g of h: transpose, transform; and back, each block as soon as its columns are done.
  void from_spectrum(int g, const T* h, T* x, T* scratch) const {
    for (int c = 0; c < tiles_; ++c) transpose(block(h, c, g), x + c * W * E);
    along_.inverse(x, scratch);
  }
  void to_spectrum(int g, T* x, T* h, T* scratch) const {
    int c = 0;
    along_.forward(x, scratch, [&](int done) {
      for (; c < tiles_ && ((c + 1) * W <= done || done == cols_); ++c)
        transpose(x + c * W * E, h + (block(h, c, g) - h));
    });
  }
  const T* block(const T* h, int c, int g) const {
    return h + c * pitch_ + static_cast<size_t>(g) * W * E;
  }
  static KSPIKE_INLINE void transpose(const T* from, T* to) {
#pragma GCC unroll 2
    for (int part = 0; part < E; part += W) {
      V v[W];
#pragma GCC unroll 16
      for (int r = 0; r < W; ++r) v[r] = S::load(from + r * E + part);
      S::transpose(v);
#pragma GCC unroll 16
      for (int l = 0; l < W; ++l) S::store(to + l * E + part, v[l]);
    }
  }

  // Group g of an interleaved image (rows, cols) <-> vectors over its rows: column j's real parts
  // at x + j step, its imaginary ones `imaginary` further. In blocks of W x W pixels; what a block
  // lacks of those, at the last rows and columns, a copy of it has as zeros. `exact`: x has no room
  // past the last column.
  void read(const T* image, int g, T scale, T* x, size_t step, size_t imaginary,
            bool exact = false) const {
    const int height = std::min(W, rows_ - g * W);
    for (int c = 0; c < tiles_; ++c) {
      const int width = std::min(W, cols_ - c * W);
      const T* from = image + (static_cast<size_t>(g) * W * cols_ + c * W) * 2;
      size_t line = 2 * static_cast<size_t>(cols_);
      T copy[W * E];
      if (height < W || width < W) {
        std::fill_n(copy, W * E, T(0));
        for (int r = 0; r < height; ++r) std::copy_n(from + r * line, 2 * width, copy + r * E);
        from = copy;
        line = E;
      }
      V re[W], im[W];
#pragma GCC unroll 16
      for (int r = 0; r < W; ++r) S::load_complex(from + r * line, re[r], im[r]);
      S::transpose(re);
      S::transpose(im);
#pragma GCC unroll 16
      for (int l = 0; l < W; ++l) {
        if (exact && l >= width) break;
        T* at = x + (c * W + l) * step;
        S::store(at, scale * re[l]);
        S::store(at + imaginary, scale * im[l]);
      }
    }
  }
  template <bool kCompare>  // returns the largest change of a part
  double write(int g, const T* x, size_t step, size_t imaginary, T scale, T* image) const {
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
        const T* at = x + std::min(c * W + l, cols_ - 1) * step;
        re[l] = scale * S::load(at);
        im[l] = scale * S::load(at + imaginary);
      }
      S::transpose(re);
      S::transpose(im);
      T copy[W * E];
      if (kCompare && !whole) {
        std::fill_n(copy, W * E, T(0));  // zero times what stood there could be no number
        for (int r = 0; r < height; ++r) std::copy_n(to + r * line, 2 * width, copy + r * E);
      }
      T* const p = whole ? to : copy;
      const size_t pitch = whole ? line : E;
      for (int r = 0; kCompare && r < height; ++r) {
        V old_re, old_im;
        S::load_complex(p + r * pitch, old_re, old_im);
        const V inside = width == W ? S::all(1) : S::keep((1u << width) - 1, S::all(1));
        moved = S::larger(moved, S::modulus(inside * (re[r] - old_re)));
        moved = S::larger(moved, S::modulus(inside * (im[r] - old_im)));
      }
#pragma GCC unroll 16
      for (int r = 0; r < W; ++r)
        if (whole || r < height) S::store_complex(p + r * pitch, re[r], im[r]);
      if (!whole)
        for (int r = 0; r < height; ++r) std::copy_n(copy + r * E, 2 * width, to + r * line);
    }
    double largest = 0;
    for (int l = 0; l < W; ++l) largest = larger(largest, static_cast<double>(moved[l]));
    return largest;
  }

  // x -> f -> D* f, plus `more` if there is any, in place on group g. Lane 0 of the row below the
  // group is at below[j * step] and, imaginary, below[j * step + imaginary]; `above` holds f of the
  // row above it and receives f of its last row. Meanwhile the group that is transposed next, at
  // `next` in the first tile, is fetched, row by row: half of it another thread's column pass may
  // have written.
  template <int P, bool kFull, class Stencil>
  KSPIKE_INLINE void stencil_pass(int g, T* x, const T* below, int step, int imaginary, T* above,
                                  const T* more, const T* next, Stencil stencil) const {
    const int height = kFull ? W : rows_ - g * W;
    if ((P & kImage) && !kFull)  // the row below the last one stands in the next lane
      for (int j = 0; j < cols_; ++j) {
        x[j * E + height] = below[2 * j];
        x[j * E + W + height] = below[2 * j + 1];
      }
    const size_t at = static_cast<size_t>(g) * cols_;
    V d[4] = {}, f[4] = {};
    auto difference = [&](int j, Element here, Element right) {
      d[0] = S::shift_down(here.re, kFull ? below[j * step] : T(0)) - here.re;
      d[1] = S::shift_down(here.im, kFull ? below[j * step + imaginary] : T(0)) - here.im;
      d[2] = right.re - here.re;
      d[3] = right.im - here.im;
    };
    const int last = cols_ - 1;
    if (P & kImage) {
      S::store(x + cols_ * E, S::load(x));
      S::store(x + cols_ * E + W, S::load(x + W));
    }
    if (P & kSpectrum) {
      if (P & kImage) difference(last, element(x + last * E), element(x + cols_ * E));
      stencil.template run<false>(at + last, d, f);
    }
    V left_re = f[2], left_im = f[3];
    Element here = element(x);
    for (int j = 0; j < cols_; ++j) {
      if (P & kImage) {
        const Element right = element(x + (j + 1) * E);
        difference(j, here, right);
        here = right;
      }
      if (P & kImage) {
        const T* row = next + j / W * pitch_ + j % W * E;
        __builtin_prefetch(row);
        __builtin_prefetch(row + W);
      }
      stencil.template run<true>(at + j, d, f);
      if (!(P & kSpectrum)) continue;
      // In this order, so that a first group, whose row above is added at the end, rounds like any
      // other.
      V re = ((left_re - f[2]) - f[0]) + S::shift_up(f[0], above[2 * j]);
      V im = ((left_im - f[3]) - f[1]) + S::shift_up(f[1], above[2 * j + 1]);
      if ((P & kRhs) && more) {
        re += S::load(more + j * E);
        im += S::load(more + j * E + W);
      }
      S::store(x + j * E, re);
      S::store(x + j * E + W, im);
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
  std::vector<Bits> bits_;           // sampled frequencies, one bit per lane: [tile][row]
  std::vector<int64_t> first_;       // how many of them stand before each tile
  std::vector<int64_t> source_;      // which sample each is
  std::vector<int32_t> place_;       // where it stands in its tile
  std::vector<int32_t> packed_;      // where its real and its imaginary part stand in the data
  std::vector<int64_t> first_slot_;  // how many elements of a total stand before each tile
  std::vector<int32_t> slot_;        // where each sample stands in its tile of a total
  int64_t mean_ = -1;                // which one stands for the mean when that is not sampled
  std::vector<T>
      phase_;  // exp(2 pi i (k_rows (rows / 2) / rows + k_cols (cols / 2) / cols)): the centring
  Aligned<T> symbol_rows_, symbol_cols_;  // N K
  int64_t samples_ = 0;
  bool mean_sampled_ = false;
};

}  // namespace kspike
