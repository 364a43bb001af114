#include "weights/cuda/stream.hpp"

#include <utility>

namespace pipelined::weights::cuda {

OwnStream::OwnStream(const PrimaryContext& context) : driver_(context.driver()) {
  driver_.stream_create(&handle_, stream_non_blocking);
}

OwnStream::~OwnStream() { static_cast<void>(driver_.stream_destroy.attempt(handle_)); }

bool OwnStream::settle() const noexcept {
  return driver_.stream_synchronize.attempt(handle_) == Result::success ||
         driver_.stream_synchronize.attempt(handle_) == Result::success;
}

OwnEvent::OwnEvent(const PrimaryContext& context) : driver_(&context.driver()) {
  driver_->event_create(&handle_, event_blocking_sync | event_disable_timing);
}

OwnEvent::OwnEvent(OwnEvent&& other) noexcept
    : driver_(other.driver_), handle_(std::exchange(other.handle_, nullptr)) {}

OwnEvent& OwnEvent::operator=(OwnEvent&& other) noexcept {
  std::swap(driver_, other.driver_);
  std::swap(handle_, other.handle_);
  return *this;
}

OwnEvent::~OwnEvent() {
  if (handle_ != nullptr) {
    static_cast<void>(driver_->event_destroy.attempt(handle_));
  }
}

}  // namespace pipelined::weights::cuda
