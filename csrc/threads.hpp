// SPDX-License-Identifier: MIT
// A pool of threads that sleeps between calls, survives a fork, and a barrier that gives its core
// away while it waits.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
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

class Pool {
 public:
  explicit Pool(int threads) : threads_(threads) {}
  ~Pool() { stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // f(0) here and f(1), ..., f(threads - 1) on the workers; returns when all have ended. One caller
  // at a time.
  void run(const std::function<void(int)>& f) {
    if (threads_ == 1) return f(0);
    std::lock_guard<std::mutex> one_caller(callers_);
    start();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = &f;
      left_ = threads_ - 1;
      ++round_;
    }
    wake_.notify_all();
    f(0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return left_ == 0; });
  }

 private:
  void start() {
    if (owner_ == getpid()) return;
    // After a fork the workers exist in the parent only: forget their handles, which cannot be
    // joined here.
    for (std::thread& worker : workers_) new std::thread(std::move(worker));
    workers_.clear();
    owner_ = getpid();
    for (int k = 1; k < threads_; ++k)
      workers_.emplace_back([this, k, seen = round_]() mutable { work(k, seen); });
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
    if (owner_ != getpid()) {
      for (std::thread& worker : workers_) new std::thread(std::move(worker));
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  const int threads_;
  pid_t owner_ = 0;
  std::vector<std::thread> workers_;
  std::mutex callers_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int)>* work_ = nullptr;
  unsigned round_ = 0;
  int left_ = 0;
  bool stopping_ = false;
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
