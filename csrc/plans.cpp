// SPDX-License-Identifier: MIT
// The Python face of the plans: check shapes, release the GIL, call. Compiled once for each
// instruction set into a module of its own (_core, _core_v3, _core_v4), so that no instruction
// leaks from one into another.
#include <pybind11/stl.h>

#include <optional>

#include "admm.hpp"
#include "arrays.hpp"

using namespace kspike;

namespace {

constexpr py::ssize_t kLongest = 1 << 28;  // so that sums and small multiples of sides are ints

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif

Norm norm_of(const std::string& name) {
  if (name == "separable") return Norm::kSeparable;
  if (name == "modulus") return Norm::kModulus;
  if (name == "isotropic") return Norm::kIsotropic;
  throw py::value_error("norm: expected separable, modulus or isotropic, got " + name);
}

void not_negative(int64_t iterations) {
  if (iterations < 0) throw py::value_error("iterations: expected 0 or more");
}

// Ctrl-C ends a long call: signals are looked for where Python handles them, in the main thread.
Watch watch_signals() {
  return Watch([] {
    py::gil_scoped_acquire held;
    return PyErr_CheckSignals() != 0;
  });
}
void raise_if_ended(const Watch& watch) {
  if (watch.ended()) throw py::error_already_set();
}

template <class T>
void register_plan(py::module_& m, const std::string& suffix) {
  using A = Array<T>;
  using Engine = Plan<T, kBytes / static_cast<int>(sizeof(T))>;
  // The plan outlives its states, whose layout only it knows.
  struct State {
    std::shared_ptr<Engine> plan;
    typename Engine::State images;
  };
  struct Tape {
    std::shared_ptr<Engine> plan;
    typename Engine::Tape images;
  };
  const auto no = [](const char* name) { return py::arg(name).noconvert(); };

  py::class_<State>(m, ("State" + suffix).c_str(), "The ADMM state of a batch, kept between calls.")
      .def_property_readonly("batch", [](const State& s) { return s.images.size(); })
      .def("copy", [](const State& s) { return State(s); })
      .def("field", [](const State& s) {
        const auto& p = s.plan->passes();
        A w({static_cast<py::ssize_t>(s.images.size()), py::ssize_t{2}, py::ssize_t{p.rows()},
             py::ssize_t{p.cols()}});
        T* to = out(w);
        unlocked([&] {
          for (size_t i = 0; i < s.images.size(); ++i)
            p.store_field(s.images[i].w.data(), to + 2 * i * s.plan->image_size());
        });
        return w;
      });
  py::class_<Tape>(m, ("Tape" + suffix).c_str(), "The supports of a solve, step by step.")
      .def_property_readonly("steps", [](const Tape& t) {
        std::vector<int64_t> steps;
        for (const auto& image : t.images) steps.push_back(static_cast<int64_t>(image.count));
        return py::array_t<int64_t>(static_cast<py::ssize_t>(steps.size()), steps.data());
      });

  const auto images = [](const Engine& e, const A& x, const char* name) {
    expect(x, name, {x.ndim() ? x.shape(0) : 0, e.passes().rows(), e.passes().cols()});
    return static_cast<int64_t>(x.shape(0));
  };
  const auto samples = [](const Engine& e, const A& y, const char* name, int64_t batch) {
    expect(y, name, {batch, e.passes().samples()});
  };

  py::class_<Engine, std::shared_ptr<Engine>>(m, ("Plan" + suffix).c_str(),
                                              "See kspike.reference.Plan.")
      .def(py::init([](const py::array_t<bool, py::array::c_style>& mask, int threads,
                       const std::string& norm) {
             if (mask.ndim() != 2 || mask.size() == 0 || mask.shape(0) > kLongest ||
                 mask.shape(1) > kLongest)
               throw py::value_error("mask: expected (rows, cols), at most 2^28 each");
             if (threads < 1) throw py::value_error("threads: expected at least 1");
             return std::make_shared<Engine>(mask.data(), static_cast<int>(mask.shape(0)),
                                             static_cast<int>(mask.shape(1)), threads,
                                             norm_of(norm));
           }),
           no("mask"), py::arg("threads"), py::arg("norm") = "separable")
      .def(
          "forward",
          [=](Engine& e, const A& x, A& y) {
            const int64_t batch = images(e, x, "x");
            samples(e, y, "out", batch);
            const T* from = in(x);
            T* to = out(y);
            unlocked([&] { e.forward(from, to, batch); });
            return y;
          },
          no("x"), no("out"))
      .def(
          "adjoint",
          [=](Engine& e, const A& y, A& x) {
            const int64_t batch = images(e, x, "out");
            samples(e, y, "y", batch);
            const T* from = in(y);
            T* to = out(x);
            unlocked([&] { e.adjoint(from, to, batch); });
            return x;
          },
          no("y"), no("out"))
      .def(
          "resolvent",
          [=](Engine& e, const A& b, double rho, A& x) {
            const int64_t batch = images(e, b, "b");
            if (images(e, x, "out") != batch) throw py::value_error("out: expected the batch of b");
            const T* from = in(b);
            T* to = out(x);
            unlocked([&] { e.resolvent(from, rho, to, batch); });
            return x;
          },
          no("b"), py::arg("rho"), no("out"))
      .def(
          "state",
          [](const std::shared_ptr<Engine>& e, const A& w) {
            expect(w, "w", {w.ndim() ? w.shape(0) : 0, 2, e->passes().rows(), e->passes().cols()});
            const T* from = in(w);
            const int64_t batch = w.shape(0);
            return unlocked([&] { return State{e, e->load_state(from, batch)}; });
          },
          no("w"))
      .def(
          "tape",
          [](const std::shared_ptr<Engine>& e, int64_t batch) {
            return std::make_unique<Tape>(
                Tape{e, typename Engine::Tape(static_cast<size_t>(batch))});
          },
          py::arg("batch"))
      .def(
          "rescale",
          [](const std::shared_ptr<Engine>& e, State& state, double t, double to) {
            if (state.plan != e) throw py::value_error("state: expected one of this plan");
            unlocked([&] { e->rescale(state.images, t, to); });
          },
          py::arg("state"), py::arg("t"), py::arg("to"))
      .def(
          "freeze",
          [](const std::shared_ptr<Engine>& e, const State& state, double t) {
            if (state.plan != e) throw py::value_error("state: expected one of this plan");
            return unlocked(
                [&] { return std::make_unique<Tape>(Tape{e, e->freeze(state.images, t)}); });
          },
          py::arg("state"), py::arg("t"))
      .def(
          "iterate",
          [=](const std::shared_ptr<Engine>& e, State& state, const A& y, A& x, double t,
              double rho, double relax, int64_t iterations,
              const std::optional<py::array_t<double, py::array::c_style>>& stop, Tape* tape,
              const std::optional<A>& rhs) {
            const int64_t batch = static_cast<int64_t>(state.images.size());
            if (state.plan != e || (tape && tape->plan != e))
              throw py::value_error("state, tape: expected those of this plan");
            not_negative(iterations);
            if (images(*e, x, "x") != batch ||
                (tape && static_cast<int64_t>(tape->images.size()) != batch))
              throw py::value_error("x, tape: expected the batch of the state");
            samples(*e, y, "y", batch);
            if (stop) expect(*stop, "stop", {batch});
            if (rhs && images(*e, *rhs, "rhs") != batch)
              throw py::value_error("rhs: expected the batch of the state");
            py::array_t<int64_t> count(batch);
            py::array_t<double> change(batch);
            std::fill_n(count.mutable_data(), batch, 0);
            std::fill_n(change.mutable_data(), batch, std::numeric_limits<double>::infinity());
            Watch watch = watch_signals();
            const T* from = in(y);
            T* to = out(x);
            const double* threshold = stop ? aligned(stop->data()) : nullptr;
            const T* image = rhs ? in(*rhs) : nullptr;
            int64_t* counts = count.mutable_data();
            double* changes = change.mutable_data();
            unlocked([&] {
              e->iterate(state.images, from, to, t, rho, relax, iterations, threshold,
                         tape ? &tape->images : nullptr, image, counts, changes, watch);
            });
            raise_if_ended(watch);
            return py::make_tuple(count, change);
          },
          py::arg("state"), no("y"), no("x"), py::arg("t"), py::arg("rho"), py::arg("relax"),
          py::arg("iterations"), py::arg("stop").noconvert() = py::none(),
          py::arg("tape") = nullptr, py::arg("rhs").noconvert() = py::none())
      .def(
          "tangent",
          [=](const std::shared_ptr<Engine>& e, State& state, const Tape& tape, const A& g, A& dx,
              double rho, double relax, int64_t iterations) {
            const size_t batch = state.images.size();
            if (state.plan != e || tape.plan != e)
              throw py::value_error("state, tape: expected those of this plan");
            not_negative(iterations);
            if (tape.images.size() != batch || images(*e, g, "g") != static_cast<int64_t>(batch) ||
                images(*e, dx, "dx") != static_cast<int64_t>(batch))
              throw py::value_error("tape, g, dx: expected the batch of the state");
            for (const auto& image : tape.images)
              if (image.count == 0) throw py::value_error("tape: expected at least one step");
            const T* from = in(g);
            T* to = out(dx);
            Watch watch = watch_signals();
            unlocked([&] {
              e->tangent(state.images, tape.images, from, to, rho, relax, iterations, watch);
            });
            raise_if_ended(watch);
          },
          py::arg("state"), py::arg("tape"), no("g"), no("dx"), py::arg("rho"), py::arg("relax"),
          py::arg("iterations"))
      .def(
          "reverse",
          [=](const std::shared_ptr<Engine>& e, const Tape& tape, const A& g, A& y, A& w,
              double rho, double relax) {
            const int64_t batch = static_cast<int64_t>(tape.images.size());
            if (tape.plan != e) throw py::value_error("tape: expected one of this plan");
            if (images(*e, g, "g") != batch)
              throw py::value_error("g: expected the batch of the tape");
            samples(*e, y, "y", batch);
            expect(w, "w", {batch, 2, e->passes().rows(), e->passes().cols()});
            const T* from = in(g);
            T *to_y = out(y), *to_w = out(w);
            Watch watch = watch_signals();
            unlocked([&] { e->reverse(tape.images, from, to_y, to_w, rho, relax, watch); });
            raise_if_ended(watch);
          },
          py::arg("tape"), no("g"), no("y"), no("w"), py::arg("rho"), py::arg("relax"));
}

}  // namespace

PYBIND11_MODULE(KSPIKE_MODULE, m, py::mod_gil_not_used()) {
  m.attr("lanes") = kBytes / 4;
  register_plan<float>(m, "64");
  register_plan<double>(m, "128");
}
