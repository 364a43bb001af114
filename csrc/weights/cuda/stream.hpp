#pragma once

#include <memory>

#include "weights/cuda/context.hpp"

namespace pipelined::weights::cuda {

// A stream of our own, which does not wait for the default stream nor that for it. The context must
// be current where it is made and destroyed; thread-safe otherwise.
class OwnStream {
 public:
  // Throws CudaError.
  explicit OwnStream(const PrimaryContext& context);
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  OwnStream(OwnStream&&) = delete;
  OwnStream& operator=(OwnStream&&) = delete;
  ~OwnStream();

  [[nodiscard]] Stream handle() const noexcept { return handle_; }
  // Waits for all that was asked of it. False where the driver does not say that it is done, even
  // when it is asked again.
  [[nodiscard]] bool settle() const noexcept;

 private:
  const Driver& driver_;
  Stream handle_ = nullptr;
};

// An event of our own, which has no time and at which a thread waits without spinning. The context
// must be current where it is made and destroyed. Movable.
class OwnEvent {
 public:
  // Throws CudaError.
  explicit OwnEvent(const PrimaryContext& context);
  OwnEvent(OwnEvent&& other) noexcept;
  OwnEvent& operator=(OwnEvent&& other) noexcept;
  OwnEvent(const OwnEvent&) = delete;
  OwnEvent& operator=(const OwnEvent&) = delete;
  ~OwnEvent();

  // Throw CudaError.
  void record(Stream stream) const { driver_->event_record(handle_, stream); }
  void synchronize() const { driver_->event_synchronize(handle_); }
  [[nodiscard]] Event handle() const noexcept { return handle_; }

 private:
  const Driver* driver_;
  Event handle_ = nullptr;
};

}  // namespace pipelined::weights::cuda
