#include "weights/budget.hpp"

#include <algorithm>
#include <utility>

#include "weights/errors.hpp"

namespace pipelined::weights {

Budget::Reservation::Reservation(std::shared_ptr<Budget> budget, std::uint64_t bytes) noexcept
    : budget_(std::move(budget)), bytes_(bytes) {}

Budget::Reservation::Reservation(Reservation&& other) noexcept
    : budget_(std::move(other.budget_)), bytes_(std::exchange(other.bytes_, 0)) {}

Budget::Reservation& Budget::Reservation::operator=(Reservation&& other) noexcept {
  std::swap(budget_, other.budget_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Budget::Reservation::~Reservation() {
  if (budget_ != nullptr) {
    budget_->give_back(bytes_);
  }
}

Budget::Budget(std::string memory, std::uint64_t total) noexcept
    : memory_(std::move(memory)), total_(total) {}

std::shared_ptr<Budget> Budget::create(std::string memory, std::uint64_t total) {
  // No make_shared: it could not reach the constructor.
  return std::shared_ptr<Budget>(new Budget(std::move(memory), total));  // NOLINT(*-owning-memory)
}

std::optional<Budget::Reservation> Budget::try_reserve(std::uint64_t bytes) {
  {
    const std::scoped_lock lock(mutex_);
    if (!waiting_.empty() || bytes > total_ - used_) {
      return std::nullopt;
    }
    take(bytes);
  }
  return Reservation(shared_from_this(), bytes);
}

Budget::Reservation Budget::reserve(std::uint64_t bytes, const std::stop_token& stop) {
  {
    std::unique_lock lock(mutex_);
    if (bytes > total_) {
      throw OverBudget(memory_, bytes, total_);
    }
    const auto ticket = waiting_.insert(waiting_.end(), bytes);
    const bool granted = changed_.wait(
        lock, stop, [&] { return ticket == waiting_.begin() && bytes <= total_ - used_; });
    waiting_.erase(ticket);
    if (granted) {
      take(bytes);
    }
    // The next in the queue may fit as well.
    changed_.notify_all();
    if (!granted) {
      throw Cancelled();
    }
  }
  return {shared_from_this(), bytes};
}

std::uint64_t Budget::used() const {
  const std::scoped_lock lock(mutex_);
  return used_;
}

std::uint64_t Budget::peak() const {
  const std::scoped_lock lock(mutex_);
  return peak_;
}

void Budget::take(std::uint64_t bytes) noexcept {
  used_ += bytes;
  peak_ = std::max(peak_, used_);
}

void Budget::give_back(std::uint64_t bytes) noexcept {
  const std::scoped_lock lock(mutex_);
  used_ -= bytes;
  changed_.notify_all();
}

}  // namespace pipelined::weights
