// SPDX-License-Identifier: MIT
// The plan of one mask: operators, ADMM iteration, reverse sweep and tangent over batches of images
// and threads. Meaning: kspike/reference.py, Plan; how: passes.hpp.
#pragma once

#include <atomic>
#include <cstddef>
#include <limits>
#include <mutex>

#include "norms.hpp"

namespace kspike {

template <class T, int W>
class Plan {
 public:
  using S = Simd<T, W>;
  using P = Passes<T, W>;
  using Data = typename P::Data;
  static constexpr int kCheck = 10;

  // One image: the field w and, for the threshold t, the half-transformed D*(w - 2 clip(w, t)) that
  // belongs to it.
  struct Image {
    Aligned<T> w, h;
    double t = std::numeric_limits<double>::quiet_NaN();
  };
  using State = std::vector<Image>;

  // The tape of one image, the records of the norm's stencils step after step: 4 bits per pixel, or
  // a field. The memory is touched as the steps are written.
  struct Steps {
    std::unique_ptr<std::byte[]> records;
    size_t capacity = 0, count = 0;
  };
  using Tape = std::vector<Steps>;

  Plan(const bool* mask, int rows, int cols, int threads, Norm norm)
      : passes_(mask, rows, cols), pool_(threads), norm_(norm) {}

  const P& passes() const { return passes_; }
  size_t image_size() const { return 2 * static_cast<size_t>(passes_.pixels()); }
  size_t samples_size() const { return 2 * static_cast<size_t>(passes_.samples()); }

  // --- the operators
  // --------------------------------------------------------------------------------------------------

  // y = A x
  void forward(const T* x, T* y, int64_t batch) {
    each_image(batch, kSpectrum, [&](int64_t i, Team<T>& team, int k) {
      T* h = team.h.data();
      passes_.rows_forward(x + i * image_size(), T(1), h, team, k);
      team.wait();
      for (auto [c, end] = team.share(passes_.tiles(), k); c < end; ++c) {
        passes_.columns_forward(c, h, team.members[k].transform.data());
        passes_.gather(c, h, orthonormal(), y + i * samples_size());
      }
    });
  }

  // x = A* y
  void adjoint(const T* y, T* x, int64_t batch) {
    each_image(batch, kSpectrum, [&](int64_t i, Team<T>& team, int k) {
      T* h = team.h.data();
      for (auto [c, end] = team.share(passes_.tiles(), k); c < end; ++c) {
        passes_.scatter(c, y + i * samples_size(), orthonormal(), h);
        passes_.columns_inverse(c, h, team.members[k].transform.data());
      }
      team.wait();
      passes_.rows_inverse(h, x + i * image_size(), T(1), team, k);
    });
  }

  // x = (A*A + rho D*D)^-1 b
  void resolvent(const T* b, double rho, T* x, int64_t batch) {
    each_image(batch, kSpectrum, [&](int64_t i, Team<T>& team, int k) {
      T* h = team.h.data();
      passes_.rows_forward(b + i * image_size(), T(1), h, team, k);
      team.wait();
      columns<Data::kNone>(h, rho, 1, team, k);
      passes_.rows_inverse(h, x + i * image_size(), static_cast<T>(1 / rho), team, k);
      remove_mean(x + i * image_size(), team, k);
    });
  }

  // --- states and tapes
  // -----------------------------------------------------------------------------------------------

  // w (batch, 2, rows, cols) <-> the state.
  State load_state(const T* w, int64_t batch) const {
    State state;
    for (int64_t i = 0; i < batch; ++i, w += 2 * image_size()) {
      state.push_back({Aligned<T>(passes_.field_size()), passes_.spectrum()});
      passes_.load_field(w, state.back().w.data());
    }
    return state;
  }  // NOLINT(clang-analyzer-cplusplus.NewDeleteLeaks): it does not see the moves

  // w <- w + (to / t - 1) clip(w, t), where w - f = 2 clip(w, t).
  void rescale(State& state, double t, double to) const {
    const typename S::V threshold = S::all(static_cast<T>(t)),
                        half = S::all(static_cast<T>((to / t - 1) / 2));
    with_stencils([&](auto stencils) {
      for (Image& image : state) {
        T* w = image.w.data();
        const typename decltype(stencils)::Reflect stencil{w, threshold};
        for (size_t at = 0; at < passes_.steps(); ++at, w += 4 * W) {
          typename S::V f[4];
          stencil.template run<false>(at, nullptr, f);
          for (int p = 0; p < 4; ++p) {
            const typename S::V v = S::load(w + p * W);
            S::store(w + p * W, v + half * (v - f[p]));
          }
        }
        image.t = std::numeric_limits<double>::quiet_NaN();
      }
    });
  }

  // A tape of one step: the support of the state as it stands.
  Tape freeze(const State& state, double t) const {
    Tape tape(state.size());
    const typename S::V threshold = S::all(static_cast<T>(t));
    with_stencils([&](auto stencils) {
      using Stencils = decltype(stencils);
      for (size_t i = 0; i < state.size(); ++i) {
        append(tape[i], 1);
        auto* record = step<Stencils>(tape[i], 0);
        const T* w = state[i].w.data();
        for (size_t at = 0; at < passes_.steps(); ++at, w += 4 * W, record += Stencils::kRecords)
          Stencils::record(w, threshold, record);
        tape[i].count = 1;
      }
    });
    return tape;
  }

  // --- the iterations
  // -------------------------------------------------------------------------------------------------

  void iterate(State& state, const T* y, T* x, double t, double rho, double relax,
               int64_t iterations, const double* stop, Tape* tape, const T* rhs, int64_t* count,
               double* change, Watch& watch) {
    with_stencils([&](auto stencils) {
      iterate<decltype(stencils)>(state, y, x, t, rho, relax, iterations, stop, tape, rhs, count,
                                  change, watch);
    });
  }
  void tangent(State& state, const Tape& tape, const T* g, T* dx, double rho, double relax,
               int64_t iterations, Watch& watch) {
    with_stencils([&](auto stencils) {
      tangent<decltype(stencils)>(state, tape, g, dx, rho, relax, iterations, watch);
    });
  }
  void reverse(const Tape& tape, const T* g, T* y, T* w, double rho, double relax, Watch& watch) {
    with_stencils(
        [&](auto stencils) { reverse<decltype(stencils)>(tape, g, y, w, rho, relax, watch); });
  }

 private:
  enum Scratch { kNothing = 0, kSpectrum = 1, kField = 2, kTotal = 4, kRhs = 8 };
  static constexpr int kFirst = P::kSpectrum, kStep = P::kImage | P::kSpectrum, kLast = P::kImage;

  // f(the family of stencils of the norm)
  template <class F>
  void with_stencils(F&& f) const {
    switch (norm_) {
      case Norm::kSeparable:
        return f(Separable<T, W>{});
      case Norm::kModulus:
        return f(Joint<T, W, 2>{});
      case Norm::kIsotropic:
        return f(Joint<T, W, 4>{});
    }
  }

  template <class Stencils>
  void iterate(State& state, const T* y, T* x, double t, double rho, double relax,
               int64_t iterations, const double* stop, Tape* tape, const T* rhs, int64_t* count,
               double* change, Watch& watch) {
    if (tape)
      for (Steps& steps : *tape) append(steps, static_cast<size_t>(iterations));
    const typename S::V threshold = S::all(static_cast<T>(t)),
                        relaxation = S::all(static_cast<T>(relax));
    each_image(
        static_cast<int64_t>(state.size()), rhs ? kRhs : kNothing,
        [&](int64_t i, Team<T>& team, int k) {
          Image& image = state[i];
          if (k == 0) passes_.load_data(y + i * samples_size(), rho, team.data.data());
          if (rhs) passes_.load_rhs(rhs + i * image_size(), static_cast<T>(1 / rho), team, k);
          const bool refresh = rhs || !(image.t == t);
          team.wait();
          if (refresh) {
            typename Stencils::Reflect stencil{image.w.data(), threshold};
            rows<kFirst>(image.h.data(), stencil, team, k, rhs);
            if (k == 0) image.t = rhs ? std::numeric_limits<double>::quiet_NaN() : t;
            team.wait();
          }
          double moved = std::numeric_limits<double>::infinity();
          int64_t n = 0;
          while (n < iterations) {
            ++n;
            columns<Data::kSamples>(image.h.data(), rho, relax, team, k);
            watch.look();  // between two barriers, so that all read the same after the second
            const bool check = stop && n % kCheck == 0;
            typename P::Output output{nullptr, static_cast<T>(1 / relax)};
            if (check || n == iterations) output.image = x + i * image_size();
            output.compare = check;
            if (tape) {
              auto* record = step<Stencils>((*tape)[i], (*tape)[i].count + n - 1);
              typename Stencils::template Update<true> stencil{image.w.data(), threshold,
                                                               relaxation, record};
              rows<kStep>(image.h.data(), stencil, team, k, rhs, output);
            } else {
              typename Stencils::template Update<false> stencil{image.w.data(), threshold,
                                                                relaxation, nullptr};
              rows<kStep>(image.h.data(), stencil, team, k, rhs, output);
            }
            team.wait();
            if (watch.ended()) break;
            if (!check) continue;
            if (n > kCheck) moved = team.largest_change();
            if (moved <= stop[i]) break;
            team.wait();  // nobody measures anew before all have looked
          }
          if (rhs && iterations) remove_mean(x + i * image_size(), team, k);
          if (k != 0) return;
          if (tape) (*tape)[i].count += n;
          count[i] = n;
          change[i] = moved;
        },
        &watch);
  }

  // The linearised iteration on the frozen support, the last step of the tape, with right-hand side
  // g.
  template <class Stencils>
  void tangent(State& state, const Tape& tape, const T* g, T* dx, double rho, double relax,
               int64_t iterations, Watch& watch) {
    const typename S::V relaxation = S::all(static_cast<T>(relax));
    const auto one = [&](int64_t i, Team<T>& team, int k) {
      if (iterations == 0) return;
      Image& image = state[i];
      T* h = image.h.data();
      const auto* record = step<Stencils>(tape[i], tape[i].count - 1);
      passes_.load_rhs(g + i * image_size(), static_cast<T>(1 / rho), team, k);
      typename Stencils::ReflectTangent reflect{image.w.data(), record};
      passes_.template row_pass<kFirst | P::kRhs>(h, reflect, team, k);
      if (k == 0) image.t = std::numeric_limits<double>::quiet_NaN();
      team.wait();
      typename Stencils::UpdateTangent stencil{image.w.data(), relaxation, record};
      for (int64_t n = 1; n < iterations && !watch.ended(); ++n) {
        columns<Data::kNone>(h, rho, relax, team, k);
        watch.look();
        passes_.template row_pass<kStep | P::kRhs>(h, stencil, team, k);
        team.wait();
      }
      columns<Data::kNone>(h, rho, relax, team, k);
      passes_.template row_pass<kLast>(h, stencil, team, k,
                                       {dx + i * image_size(), static_cast<T>(1 / relax)});
      remove_mean(dx + i * image_size(), team, k);
    };
    each_image(static_cast<int64_t>(state.size()), kRhs, one, &watch);
  }

  // The exact adjoint of the steps on the tape: y <- the cotangent of the data, w <- that of the
  // first state.
  template <class Stencils>
  void reverse(const Tape& tape, const T* g, T* y, T* w, double rho, double relax, Watch& watch) {
    const typename S::V relaxation = S::all(static_cast<T>(relax));
    const auto one = [&](int64_t i, Team<T>& team, int k) {
      if (k == 0) {
        team.w.clear();
        team.total.clear();
      }
      T* h = team.h.data();
      passes_.rows_forward(g + i * image_size(), static_cast<T>(1 / relax), h, team, k);
      team.wait();
      for (size_t n = tape[i].count; n-- > 0 && !watch.ended();) {
        columns<Data::kTotal>(h, rho, relax, team, k);
        watch.look();
        typename Stencils::UpdateAdjoint stencil{team.w.data(), relaxation,
                                                 step<Stencils>(tape[i], n)};
        if (n > 0)
          passes_.template row_pass<kStep>(h, stencil, team, k);
        else
          passes_.template row_pass<kLast>(h, stencil, team, k);
        team.wait();
      }
      const T scale = static_cast<T>(std::sqrt(passes_.pixels()) / rho);
      for (auto [c, end] = team.share(passes_.tiles(), k); c < end; ++c)
        passes_.gather_total(c, team.total.data(), scale, y + i * samples_size());
      if (k == 0) passes_.store_field(team.w.data(), w + 2 * i * image_size());
    };
    each_image(static_cast<int64_t>(tape.size()), kSpectrum | kField | kTotal, one, &watch);
  }

  T orthonormal() const { return static_cast<T>(1 / std::sqrt(passes_.pixels())); }

  // The column pass over the k-th member's tiles.
  template <Data D>
  void columns(T* h, double rho, double gain, Team<T>& team, int k) const {
    for (auto [c, end] = team.share(passes_.tiles(), k); c < end; ++c)
      passes_.template column_pass<D>(c, h, rho, gain, team.data.data(), team.total.data(),
                                      team.members[k].transform.data());
    team.wait();
  }

  // The row pass over the k-th member's groups, with the right-hand side of the team or without.
  template <int Parts, class Stencil>
  void rows(T* h, const Stencil& stencil, Team<T>& team, int k, bool rhs,
            typename P::Output output = {}) const {
    if (rhs)
      passes_.template row_pass<Parts | P::kRhs>(h, stencil, team, k, output);
    else
      passes_.template row_pass<Parts>(h, stencil, team, k, output);
  }

  // Where the mean of x is not determined, the solution without one is meant.
  void remove_mean(T* x, Team<T>& team, int k) const {
    if (passes_.mean_sampled()) return;
    team.wait();
    if (k != 0) return;
    double mean[2] = {0, 0};
    for (size_t i = 0; i < image_size(); ++i) mean[i & 1] += static_cast<double>(x[i]);
    for (size_t i = 0; i < image_size(); ++i)
      x[i] -= static_cast<T>(mean[i & 1] / passes_.pixels());
  }

  // Room for n more steps.
  void append(Steps& steps, size_t n) const {
    if (n > std::numeric_limits<size_t>::max() / step_bytes() - steps.count) throw std::bad_alloc();
    if (steps.count + n <= steps.capacity) return;
    const size_t capacity = steps.count + n;
    std::unique_ptr<std::byte[]> grown(new std::byte[capacity * step_bytes()]);
    std::copy_n(steps.records.get(), steps.count * step_bytes(), grown.get());
    steps.records = std::move(grown);
    steps.capacity = capacity;
  }
  size_t step_bytes() const {
    size_t bytes = 0;
    with_stencils([&](auto stencils) {
      using Stencils = decltype(stencils);
      bytes = sizeof(typename Stencils::Record) * Stencils::kRecords * passes_.steps();
    });
    return bytes;
  }
  template <class Stencils>
  typename Stencils::Record* step(const Steps& steps, size_t n) const {
    return reinterpret_cast<typename Stencils::Record*>(steps.records.get()) +
           n * Stencils::kRecords * passes_.steps();
  }

  // f(image, team, member) for all members of the team of each image: one thread per image while
  // there are enough images for all threads, else all threads on one image after the other. A watch
  // that has ended leaves the images that are not begun: all of a team see that at the same one.
  template <class F>
  void each_image(int64_t batch, int scratch, F f, Watch* watch = nullptr) {
    if (batch == 0) return;
    const auto look = [watch] {
      if (watch) watch->look();
    };
    const auto ended = [watch] { return watch && watch->ended(); };
    const int threads = pool_.threads();
    if (batch >= threads) {
      std::vector<std::unique_ptr<Team<T>>> teams;
      teams.reserve(static_cast<size_t>(threads));
      for (int k = 0; k < threads; ++k) teams.push_back(borrow(1, scratch));
      std::atomic<int64_t> next{0};
      const auto work = [&](int k) {
        for (int64_t i; (i = next.fetch_add(1)) < batch && !ended();) f(i, *teams[k], 0);
      };
      pool_.run(work, look);
      for (auto& team : teams) give_back(std::move(team));
    } else {
      auto team = borrow(std::min(threads, passes_.groups()), scratch);
      const auto work = [&](int k) {
        if (k >= team->size()) return;
        for (int64_t i = 0; i < batch && !ended(); ++i) {
          f(i, *team, k);
          team->wait();
        }
      };
      pool_.run(work, look);
      give_back(std::move(team));
    }
  }
  std::unique_ptr<Team<T>> borrow(int size, int scratch) {
    std::unique_ptr<Team<T>> team;
    {
      Spares& spares = spares_.get();
      std::lock_guard<std::mutex> lock(spares.mutex);
      for (auto& spare : spares.teams)
        if (spare->size() == size) {
          team = std::move(spare);
          std::swap(spare, spares.teams.back());
          spares.teams.pop_back();
          break;
        }
    }
    if (!team) {
      team = std::make_unique<Team<T>>(size);
      passes_.prepare(*team);
    }
    if ((scratch & kSpectrum) && !team->h.size()) team->h = passes_.spectrum();
    if ((scratch & kField) && !team->w.size()) team->w = Aligned<T>(passes_.field_size());
    if ((scratch & kTotal) && !team->total.size()) team->total = Aligned<T>(passes_.total_size());
    if ((scratch & kRhs) && !team->rhs.size()) team->rhs = Aligned<T>(passes_.rhs_size());
    return team;
  }
  void give_back(std::unique_ptr<Team<T>> team) {
    Spares& spares = spares_.get();
    std::lock_guard<std::mutex> lock(spares.mutex);
    spares.teams.push_back(std::move(team));
  }

  // Teams that nobody works with.
  struct Spares {
    std::mutex mutex;
    std::vector<std::unique_ptr<Team<T>>> teams;
  };

  P passes_;
  Pool pool_;
  Norm norm_;
  OfProcess<Spares> spares_;
};

}  // namespace kspike
