#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <vector>

#include "weights/budget.hpp"
#include "weights/cuda/context.hpp"

namespace pipelined::weights::cuda {

// Pinned host memory, in slabs of one size, for all transfers of a process: each fills a slab,
// copies it to or from a device, and returns it for the next. A slab is pinned once, when it is
// first needed, by the thread that is about to read into it, and counts as pinned in the contexts
// of all devices.
//
// The budget is the back-pressure: when it is used up, whoever wants a slab waits until one is
// returned. Nobody holds a slab while he waits for a second one, so somebody always gets on.
//
// A slab must not be returned while a copy from or to it is under way; that is the holder's duty
// (see transfer.hpp). Thread-safe. Must outlive its leases. The budget is for this ring alone:
// nobody tells it of bytes that others give back.
class PinnedRing {
 public:
  class Lease;

  // The budget is reserved slab by slab. Throws OverBudget where not even one fits.
  PinnedRing(std::shared_ptr<const PrimaryContext> context, std::size_t slab_bytes,
             std::shared_ptr<Budget> budget);
  PinnedRing(const PinnedRing&) = delete;
  PinnedRing& operator=(const PinnedRing&) = delete;
  PinnedRing(PinnedRing&&) = delete;
  PinnedRing& operator=(PinnedRing&&) = delete;
  ~PinnedRing();

  // Waits for a slab, or pins one. Throws CudaError, and Cancelled when it is told to stop. Makes
  // its own context current where it must.
  [[nodiscard]] Lease acquire(const std::stop_token& stop);

  // Frees the slabs that nobody holds.
  void trim() noexcept;

  [[nodiscard]] std::size_t slab_bytes() const noexcept { return slab_bytes_; }
  [[nodiscard]] const Budget& budget() const noexcept { return *budget_; }

 private:
  struct Slab {
    std::byte* data = nullptr;
    Budget::Reservation reservation;
  };

  [[nodiscard]] Slab pin(Budget::Reservation reservation);
  void unpin(const Slab& slab) const noexcept;
  void put_back(Slab slab) noexcept;
  void forget(Slab slab) noexcept;
  void wake_all() noexcept;

  std::shared_ptr<const PrimaryContext> context_;
  std::size_t slab_bytes_;
  std::shared_ptr<Budget> budget_;
  std::mutex mutex_;
  std::condition_variable_any returned_;
  // Room for all of them is made when they are pinned, so that returning one cannot fail.
  std::vector<Slab> free_;
  std::size_t pinned_ = 0;
};

// A slab, until it dies. Movable.
class PinnedRing::Lease {
 public:
  Lease(Lease&& other) noexcept;
  Lease& operator=(Lease&& other) noexcept;
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease();

  [[nodiscard]] std::span<std::byte> bytes() const noexcept {
    return {slab_.data, ring_->slab_bytes_};
  }
  // Has the slab freed and not returned: the driver waits for copies that it may still be in.
  void discard() noexcept;

 private:
  friend class PinnedRing;
  Lease(PinnedRing& ring, Slab slab) noexcept;

  PinnedRing* ring_;
  Slab slab_;
};

}  // namespace pipelined::weights::cuda
