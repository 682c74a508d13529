// SPDX-License-Identifier: MIT
// A pool of threads that sleeps between calls and survives a fork, a barrier that gives its core
// away while it waits, and the watch that ends a long call.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace kspike {

class Barrier {
 public:
  explicit Barrier(int n) : n_(n) {}
  void wait() {
    if (n_ == 1) return;
    const unsigned now = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == n_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.fetch_add(1, std::memory_order_release);
      round_.notify_all();
      return;
    }
    for (int i = 0; i < kPatience; ++i) {
      if (round_.load(std::memory_order_acquire) != now) return;
      pause();
    }
    while (round_.load(std::memory_order_acquire) == now)
      round_.wait(now, std::memory_order_acquire);
  }

 private:
  static constexpr int kPatience =
      2000;  // a few microseconds, less than it costs to sleep and wake
  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  const int n_;
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> round_{0};
};

// An object of this process. After a fork the child makes one of its own, for a lock in its
// parent's may be held by a thread that the child does not have, and never touches that again.
template <class T>
class OfProcess {
 public:
  OfProcess() = default;
  ~OfProcess() {
    Held* held = held_.load();
    if (held && held->owner == getpid()) delete held;
  }
  OfProcess(const OfProcess&) = delete;
  OfProcess& operator=(const OfProcess&) = delete;

  T& get() {
    Held* held = held_.load();
    while (!held || held->owner != getpid()) {
      auto own = std::make_unique<Held>();
      if (held_.compare_exchange_strong(held, own.get())) held = own.release();
    }
    return held->object;
  }

 private:
  struct Held {
    T object;
    const pid_t owner = getpid();
  };
  std::atomic<Held*> held_{nullptr};
};

// The threads of a pool in one process.
class Crew {
 public:
  Crew() = default;
  ~Crew() { stop(); }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Whether the calling thread is inside `run`: a handler of signals may come here again.
  bool is_busy_here() const { return caller_.load() == std::this_thread::get_id(); }

  // f(0) here and f(1), ..., f(threads - 1) on the workers; returns when all have ended. One caller
  // at a time; while it waits it looks.
  template <class Look>
  void run(int threads, const std::function<void(int)>& f, const Look& look) {
    std::lock_guard<std::mutex> one_caller(callers_);
    if (workers_.empty()) start(threads);
    caller_.store(std::this_thread::get_id());
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = &f;
      left_ = threads - 1;
      ++round_;
    }
    wake_.notify_all();
    f(0);
    std::unique_lock<std::mutex> lock(mutex_);
    while (!done_.wait_for(lock, kPatience, [&] { return left_ == 0; })) {
      lock.unlock();
      look();
      lock.lock();
    }
    caller_.store(std::thread::id());
  }

 private:
  static constexpr std::chrono::milliseconds kPatience{100};
  // All of them or none.
  void start(int threads) try {
    for (int k = 1; k < threads; ++k)
      workers_.emplace_back([this, k, seen = round_]() mutable { work(k, seen); });
  } catch (const std::system_error& error) {
    const size_t started = workers_.size() + 1;
    stop();
    throw std::runtime_error("threads: expected " + std::to_string(threads) +
                             " threads, the system started " + std::to_string(started) + ": " +
                             error.what());
  }
  void work(int k, unsigned seen) {
    for (;;) {
      const std::function<void(int)>* f;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || round_ != seen; });
        if (stopping_) return;
        seen = round_;
        f = work_;
      }
      (*f)(k);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--left_ == 0) done_.notify_one();
    }
  }
  void stop() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stopping_ = false;
  }

  std::vector<std::thread> workers_;
  std::mutex callers_, mutex_;
  std::condition_variable wake_, done_;
  std::atomic<std::thread::id> caller_{};
  const std::function<void(int)>* work_ = nullptr;
  unsigned round_ = 0;
  int left_ = 0;
  bool stopping_ = false;
};

// Threads that sleep between calls, from the first call on.
class Pool {
 public:
  explicit Pool(int threads) : threads_(threads) {}

  int threads() const { return threads_; }

  // See Crew::run.
  template <class Look>
  void run(const std::function<void(int)>& f, const Look& look) {
    if (threads_ == 1) return f(0);
    Crew& crew = crew_.get();
    if (crew.is_busy_here()) return Crew().run(threads_, f, look);
    crew.run(threads_, f, look);
  }

 private:
  const int threads_;
  OfProcess<Crew> crew_;
};

// Whether a long call shall end early. The calling thread looks outside, ten times a second, by a
// function that says so; the others only read what it found.
class Watch {
 public:
  explicit Watch(std::function<bool()> ends) : ends_(std::move(ends)) {}
  void look() {
    if (std::this_thread::get_id() != caller_ || ended()) return;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(100);
    if (ends_()) ended_.store(true, std::memory_order_relaxed);
  }
  bool ended() const { return ended_.load(std::memory_order_relaxed); }

 private:
  const std::function<bool()> ends_;
  const std::thread::id caller_ = std::this_thread::get_id();
  std::chrono::steady_clock::time_point next_ =
      std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
  std::atomic<bool> ended_{false};
};

}  // namespace kspike
