#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>

namespace pipelined::weights {

// An amount of some memory that may be in use at once. Who wants some reserves it before it is
// allocated, and holds the reservation until it is freed. Thread-safe.
//
// Invariant: used() never exceeds total().
class Budget : public std::enable_shared_from_this<Budget> {
 public:
  // Gives its bytes back when it dies. Movable.
  class Reservation {
   public:
    Reservation() = default;
    Reservation(Reservation&& other) noexcept;
    Reservation& operator=(Reservation&& other) noexcept;
    Reservation(const Reservation&) = delete;
    Reservation& operator=(const Reservation&) = delete;
    ~Reservation();

    [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

   private:
    friend class Budget;
    Reservation(std::shared_ptr<Budget> budget, std::uint64_t bytes) noexcept;

    std::shared_ptr<Budget> budget_;
    std::uint64_t bytes_ = 0;
  };

  // `memory` is what errors call it, such as "device memory".
  static std::shared_ptr<Budget> create(std::string memory, std::uint64_t total);

  // Nothing where too little is left at the moment, or others have waited for longer.
  [[nodiscard]] std::optional<Reservation> try_reserve(std::uint64_t bytes);
  // Waits until enough has been given back, first come, first served. Throws OverBudget at once
  // where there will never be enough, and Cancelled when it is told to stop.
  [[nodiscard]] Reservation reserve(std::uint64_t bytes, const std::stop_token& stop);

  [[nodiscard]] std::uint64_t total() const noexcept { return total_; }
  [[nodiscard]] std::uint64_t used() const;
  // The most that was in use at once.
  [[nodiscard]] std::uint64_t peak() const;

 private:
  Budget(std::string memory, std::uint64_t total) noexcept;
  void take(std::uint64_t bytes) noexcept;
  void give_back(std::uint64_t bytes) noexcept;

  const std::string memory_;
  const std::uint64_t total_;
  mutable std::mutex mutex_;
  std::condition_variable_any changed_;
  std::uint64_t used_ = 0;
  std::uint64_t peak_ = 0;
  // Those who wait, in the order in which they came.
  std::list<std::uint64_t> waiting_;
};

}  // namespace pipelined::weights
