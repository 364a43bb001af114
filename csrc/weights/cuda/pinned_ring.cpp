#include "weights/cuda/pinned_ring.hpp"

#include <utility>

#include "weights/errors.hpp"

namespace pipelined::weights::cuda {

PinnedRing::Lease::Lease(PinnedRing& ring, Slab slab) noexcept
    : ring_(&ring), slab_(std::move(slab)) {}

PinnedRing::Lease::Lease(Lease&& other) noexcept
    : ring_(other.ring_),
      slab_{std::exchange(other.slab_.data, nullptr), std::move(other.slab_.reservation)} {}

PinnedRing::Lease& PinnedRing::Lease::operator=(Lease&& other) noexcept {
  std::swap(ring_, other.ring_);
  std::swap(slab_, other.slab_);
  return *this;
}

PinnedRing::Lease::~Lease() {
  if (slab_.data != nullptr) {
    ring_->put_back(std::move(slab_));
  }
}

void PinnedRing::Lease::discard() noexcept {
  if (slab_.data != nullptr) {
    ring_->forget(std::exchange(slab_, {}));
  }
}

PinnedRing::PinnedRing(std::shared_ptr<const PrimaryContext> context, std::size_t slab_bytes,
                       std::shared_ptr<Budget> budget)
    : context_(std::move(context)), slab_bytes_(slab_bytes), budget_(std::move(budget)) {
  if (slab_bytes_ > budget_->total()) {
    throw OverBudget("pinned memory", slab_bytes_, budget_->total());
  }
}

PinnedRing::~PinnedRing() { trim(); }

PinnedRing::Lease PinnedRing::acquire(const std::stop_token& stop) {
  for (;;) {
    {
      const std::scoped_lock lock(mutex_);
      if (!free_.empty()) {
        Slab slab = std::move(free_.back());
        free_.pop_back();
        return {*this, std::move(slab)};
      }
    }
    if (auto reservation = budget_->try_reserve(slab_bytes_)) {
      try {
        return {*this, pin(*std::move(reservation))};
      } catch (...) {
        // The reservation is free again: somebody who waits may have more luck.
        wake_all();
        throw;
      }
    }
    std::unique_lock lock(mutex_);
    const bool may_go_on = returned_.wait(lock, stop, [this] {
      return !free_.empty() || budget_->used() + slab_bytes_ <= budget_->total();
    });
    if (!may_go_on) {
      throw Cancelled();
    }
  }
}

PinnedRing::Slab PinnedRing::pin(Budget::Reservation reservation) {
  const CurrentContext current(*context_);
  void* data = nullptr;
  context_->driver().mem_host_alloc(&data, slab_bytes_, host_alloc_portable);
  Slab slab{static_cast<std::byte*>(data), std::move(reservation)};
  try {
    const std::scoped_lock lock(mutex_);
    free_.reserve(pinned_ + 1);
    ++pinned_;
  } catch (...) {
    unpin(slab);
    throw;
  }
  return slab;
}

void PinnedRing::unpin(const Slab& slab) const noexcept {
  const CurrentContextIfPossible current(*context_);
  static_cast<void>(context_->driver().mem_free_host.attempt(slab.data));
}

void PinnedRing::put_back(Slab slab) noexcept {
  {
    const std::scoped_lock lock(mutex_);
    free_.push_back(std::move(slab));
  }
  // All: one that has just been told to stop would let the slab lie.
  returned_.notify_all();
}

void PinnedRing::trim() noexcept {
  for (;;) {
    Slab slab;
    {
      const std::scoped_lock lock(mutex_);
      if (free_.empty()) {
        return;
      }
      slab = std::move(free_.back());
      free_.pop_back();
    }
    forget(std::move(slab));
  }
}

void PinnedRing::forget(Slab slab) noexcept {
  unpin(slab);
  {
    const std::scoped_lock lock(mutex_);
    --pinned_;
  }
  slab.reservation = {};
  wake_all();
}

void PinnedRing::wake_all() noexcept {
  {
    // So that nobody is between looking at the budget and falling asleep.
    const std::scoped_lock lock(mutex_);
  }
  returned_.notify_all();
}

}  // namespace pipelined::weights::cuda
