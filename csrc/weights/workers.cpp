#include "weights/workers.hpp"

#include <algorithm>
#include <system_error>
#include <utility>

#include "weights/errors.hpp"
#include "weights/signals_blocked.hpp"

namespace pipelined::weights {

Workers::Workers(unsigned threads, std::stop_source stop, std::function<void()> work,
                 std::function<void()> ended)
    : stop_(std::move(stop)), work_(std::move(work)), ended_(std::move(ended)) {
  threads_.reserve(threads);
  const SignalsBlocked signals_blocked;
  for (unsigned index = 0; index < threads; ++index) {
    try {
      threads_.emplace_back([this] { run(); });
    } catch (const std::system_error& error) {
      if (index == 0) {
        throw IoError("start a thread for", "reading", error.code().value());
      }
      // Those that did not start have ended.
      for (; index < threads; ++index) {
        ended_();
      }
    }
  }
}

Workers::~Workers() {
  if (!threads_.empty()) {
    static_cast<void>(stop_.request_stop());
    join();
  }
}

void Workers::fail(std::exception_ptr failure) noexcept {
  {
    const std::scoped_lock lock(mutex_);
    if (failure_ == nullptr) {
      failure_ = std::move(failure);
    }
  }
  static_cast<void>(stop_.request_stop());
}

void Workers::join() noexcept {
  for (std::thread& thread : threads_) {
    thread.join();
  }
  threads_.clear();
}

void Workers::rethrow() const {
  if (failure_ != nullptr) {
    std::rethrow_exception(failure_);
  }
  if (stop_.stop_requested()) {
    throw Cancelled();
  }
}

unsigned Workers::count_for(std::size_t pieces) noexcept {
  constexpr unsigned least = 2;  // one reads while the other waits
  constexpr unsigned most = 12;
  const unsigned useful = std::clamp(std::thread::hardware_concurrency(), least, most);
  return static_cast<unsigned>(std::min<std::size_t>(pieces, useful));
}

void Workers::run() noexcept {
  try {
    work_();
  } catch (const Cancelled&) {
    // Whoever stopped the source knows why.
    static_cast<void>(stop_.request_stop());
  } catch (...) {
    fail(std::current_exception());
  }
  ended_();
}

}  // namespace pipelined::weights
