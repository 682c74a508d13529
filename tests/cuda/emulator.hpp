// SPDX-License-Identifier: MIT
// Runs CUDA device code on the CPU, for tests: g++ -std=c++17 -include emulator.hpp -x c++
// kernel.cu
//
// The threads of a block are fibers of one OS thread, and __syncthreads switches between them, in
// an order that emulator_order() chooses: 0 ascending, 1 descending, larger ones seed a shuffle at
// every barrier. A kernel whose result depends on the order lacks a barrier. Dynamic shared memory
// has exactly the size asked for and starts as NaN. With -fsanitize=thread every CUDA thread is a
// thread to the sanitizer and only barriers and launches order them: a full race check, between
// blocks too. With -fsanitize=address,undefined accesses are checked to the byte. Not covered: the
// memory model below barriers, contraction to FMA, launch limits, speed.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define KS_SHARED(type, name) type* name = reinterpret_cast<type*>(emulator::block().shared)
#define KS_FRESH(integer) (void)integer

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) double2 {
  double x, y;
};
struct dim3 {
  unsigned x, y, z;
};
template <class T>
T __ldg(const T* p) {
  return *p;
}
using std::sqrt;

#if defined(__SANITIZE_THREAD__)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#define EMULATOR_HIDDEN __attribute__((no_sanitize("thread"), noinline))
#define EMULATOR_TSAN(...) __VA_ARGS__
#else
#define EMULATOR_HIDDEN
#define EMULATOR_TSAN(...)
#endif
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool emulator_plain =
    false;  // sanitizers follow swapcontext; without them _longjmp spares its system calls
#else
constexpr bool emulator_plain = true;
#endif

#if defined(__SANITIZE_THREAD__)
constexpr bool emulator_reuses =
    false;  // to this sanitizer each CUDA thread has to be a new thread, with a new stack
#else
constexpr bool emulator_reuses = true;
#endif

namespace emulator {

struct Fiber {
  ucontext_t context;
  jmp_buf jump;
  std::unique_ptr<char[]> stack;
  dim3 thread{};
  bool entered = false, busy = false;
  unsigned barriers = 0;
  void* tsan = nullptr;
};

struct Block {
  dim3 grid{}, size{}, index{};
  char* shared = nullptr;
  Fiber* current = nullptr;
  void (*body)(void*) = nullptr;
  void* closure = nullptr;
  ucontext_t scheduler;
  jmp_buf scheduler_jump;
  void* scheduler_tsan = nullptr;
};

EMULATOR_HIDDEN inline Block& block() {
  static Block b;
  return b;
}
EMULATOR_HIDDEN inline int& order() {
  static int o = 0;
  return o;
}
// Addresses that stand for the launch (0, 1) and for the even and odd barriers of a block (2, 3) to
// the sanitizer.
EMULATOR_HIDDEN inline char* event(int i) {
  static char c[32];
  return c + 8 * i;
}

EMULATOR_HIDDEN inline void to_scheduler(Fiber& f) {
  EMULATOR_TSAN(__tsan_switch_to_fiber(block().scheduler_tsan, 1);)
  if (emulator_plain) {
    if (!_setjmp(f.jump)) _longjmp(block().scheduler_jump, 1);
  } else {
    swapcontext(&f.context, &block().scheduler);
  }
}

EMULATOR_HIDDEN inline void run_fiber() {
  for (;;) {
    Fiber& f = *block().current;
    EMULATOR_TSAN(__tsan_acquire(event(0));)
    block().body(block().closure);
    EMULATOR_TSAN(__tsan_release(event(1));)
    f.busy = false;
    to_scheduler(f);
  }
}

EMULATOR_HIDDEN inline void resume(Fiber& f) {
  Block& b = block();
  b.current = &f;
  EMULATOR_TSAN(b.scheduler_tsan = __tsan_get_current_fiber(); __tsan_switch_to_fiber(f.tsan, 1);)
  if (f.entered && emulator_plain) {
    if (!_setjmp(b.scheduler_jump)) _longjmp(f.jump, 1);
  } else if (emulator_plain) {
    f.entered = true;
    if (!_setjmp(b.scheduler_jump)) setcontext(&f.context);
  } else {
    swapcontext(&b.scheduler, &f.context);
  }
}

inline std::unique_ptr<Fiber> new_fiber() {
  constexpr size_t room = emulator_reuses ? 128 << 10 : 16 << 10;
  auto f = std::make_unique<Fiber>();
  f->stack.reset(new char[room]);
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack.get();
  f->context.uc_stack.ss_size = room;
  f->context.uc_link = nullptr;
  makecontext(&f->context, run_fiber, 0);
  EMULATOR_TSAN(f->tsan = __tsan_create_fiber(0);)
  return f;
}

// Fibers whose thread has ended, kept for later ones.
EMULATOR_HIDDEN inline std::vector<std::unique_ptr<Fiber>>& idle() {
  static std::vector<std::unique_ptr<Fiber>> f;
  return f;
}

EMULATOR_HIDDEN inline void run_block(std::mt19937& random,
                                      std::vector<std::unique_ptr<Fiber>>& spent) {
  Block& b = block();
  const int n = b.size.x * b.size.y * b.size.z;
  std::vector<std::unique_ptr<Fiber>> fibers(n);
  std::vector<int> sequence(n);
  std::iota(sequence.begin(), sequence.end(), 0);
  if (order() == 1) std::reverse(sequence.begin(), sequence.end());
  EMULATOR_TSAN(__tsan_release(event(0));)
  bool started = false;
  for (int live = n; live;) {
    if (order() > 1) std::shuffle(sequence.begin(), sequence.end(), random);
    int waiting = 0;
    for (int t : sequence) {
      auto& f = fibers[t];
      if (!f && started) continue;
      if (!f) {
        if (idle().empty()) idle().push_back(new_fiber());
        f = std::move(idle().back());
        idle().pop_back();
        f->thread = {t % b.size.x, t / b.size.x % b.size.y, t / (b.size.x * b.size.y)};
        f->busy = true;
        f->barriers = 0;
      }
      resume(*f);
      if (f->busy) {
        ++waiting;
      } else {
        (emulator_reuses ? idle() : spent).push_back(std::move(f));
      }
    }
    started = true;
    if (waiting && waiting != n) {
      throw std::runtime_error("divergent __syncthreads: " + std::to_string(waiting) + " of " +
                               std::to_string(n) + " threads reached it");
    }
    live = waiting;
  }
}

// The scheduler is after all these threads, and so is whatever it starts next.
EMULATOR_HIDDEN inline void end(std::vector<std::unique_ptr<Fiber>>& spent) {
  EMULATOR_TSAN(__tsan_acquire(event(1)); for (auto& f : spent) __tsan_destroy_fiber(f->tsan);)
  spent.clear();
}

template <class Body>
EMULATOR_HIDDEN void launch(const unsigned* grid, const unsigned* size, size_t shared, Body& body) {
  Block& b = block();
  b.grid = {grid[0], grid[1], grid[2]};
  b.size = {size[0], size[1], size[2]};
  b.body = [](void* closure) { (*static_cast<Body*>(closure))(); };
  b.closure = &body;
  std::mt19937 random(order());
  std::vector<std::unique_ptr<Fiber>> spent;
  std::vector<std::unique_ptr<char[]>>
      rooms;  // a new one for each block: no address is used twice under the sanitizers
  for (b.index.z = 0; b.index.z < grid[2]; ++b.index.z) {
    for (b.index.y = 0; b.index.y < grid[1]; ++b.index.y) {
      for (b.index.x = 0; b.index.x < grid[0]; ++b.index.x) {
        if (emulator_plain) rooms.clear();
        rooms.emplace_back(new char[shared]);
        std::memset(rooms.back().get(), 0xff, shared);
        b.shared = rooms.back().get();
        run_block(random, spent);
        if (spent.size() > 4096) end(spent);  // the sanitizer has room for 8128
      }
    }
  }
  end(spent);
}

// A kernel called with pointers to its arguments, as a driver does it. Returns an error message, or
// null.
template <class... A, size_t... I>
EMULATOR_HIDDEN const char* call(void (*kernel)(A...), const unsigned* grid, const unsigned* size,
                                 size_t shared, void** arguments, std::index_sequence<I...>) {
  static std::string message;
  const std::tuple<A...> values(*static_cast<std::remove_reference_t<A>*>(arguments[I])...);
  auto body = [&] { kernel(std::get<I>(values)...); };
  try {
    launch(grid, size, shared, body);
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
  return nullptr;
}
template <class... A>
const char* call(void (*kernel)(A...), const unsigned* grid, const unsigned* size, size_t shared,
                 void** arguments) {
  return call(kernel, grid, size, shared, arguments, std::index_sequence_for<A...>());
}

}  // namespace emulator

#define threadIdx (emulator::block().current->thread)
#define blockIdx (emulator::block().index)
#define blockDim (emulator::block().size)
#define gridDim (emulator::block().grid)

EMULATOR_HIDDEN inline void __syncthreads() {
  emulator::Fiber& f = *emulator::block().current;
  EMULATOR_TSAN(char* barrier = emulator::event(2 + (f.barriers++ & 1)); __tsan_release(barrier);)
  emulator::to_scheduler(f);
  EMULATOR_TSAN(__tsan_acquire(barrier);)
}

extern "C" void emulator_order(int order) { emulator::order() = order; }
// What the tests call a kernel through: KS_EXPORT(name) for each kernel of the source.
#define KS_EXPORT(name)                                                                         \
  extern "C" const char* call_##name(const unsigned* grid, const unsigned* size, size_t shared, \
                                     void** arguments) {                                        \
    return emulator::call(name, grid, size, shared, arguments);                                 \
  }
