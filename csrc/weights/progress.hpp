#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

namespace pipelined::weights {

// How far a load has got. Written by the load's threads, read by anybody, without locks; outlives
// the load, so that a record of it can be kept after the memory is gone.
class Progress {
 public:
  // steady_clock is CLOCK_MONOTONIC, the clock of Python's time.monotonic().
  using Clock = std::chrono::steady_clock;

  explicit Progress(std::uint64_t total_bytes) noexcept : total_(total_bytes) {}

  [[nodiscard]] std::uint64_t total_bytes() const noexcept { return total_; }
  [[nodiscard]] std::uint64_t loaded_bytes() const noexcept { return loaded_.load(); }
  // The instant at which the last byte was in memory, be it mapped already or not. Nothing for a
  // load that is under way, failed, or was given up.
  [[nodiscard]] std::optional<Clock::time_point> finished() const noexcept {
    const Clock::rep ticks = finished_.load();
    if (ticks == unfinished) {
      return std::nullopt;
    }
    return Clock::time_point(Clock::duration(ticks));
  }
  // The errno of the first failure, or 0.
  [[nodiscard]] int error() const noexcept { return error_.load(); }

  void add(std::uint64_t bytes) noexcept {
    if (loaded_.fetch_add(bytes) + bytes >= total_) {
      finished_.store(Clock::now().time_since_epoch().count());
    }
  }
  void fail(int code) noexcept {
    int none = 0;
    error_.compare_exchange_strong(none, code);
  }

 private:
  static constexpr Clock::rep unfinished = -1;

  std::uint64_t total_;
  std::atomic<std::uint64_t> loaded_{0};
  std::atomic<Clock::rep> finished_{unfinished};
  std::atomic<int> error_{0};
};

}  // namespace pipelined::weights
