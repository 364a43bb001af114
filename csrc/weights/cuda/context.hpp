#pragma once

#include <memory>

#include "weights/cuda/driver.hpp"

namespace pipelined::weights::cuda {

// A reference on a device's primary context: the one that the CUDA runtime, and with it torch, uses
// too, so that each can use the other's memory, streams and events.
//
// Immutable after construction and thread-safe. Current in no thread by itself: see CurrentContext.
// Of no use in a process that was forked after it was made.
class PrimaryContext {
 public:
  // Initialises CUDA where nobody has yet. Throws CudaError.
  PrimaryContext(std::shared_ptr<const Driver> driver, int ordinal);
  PrimaryContext(const PrimaryContext&) = delete;
  PrimaryContext& operator=(const PrimaryContext&) = delete;
  PrimaryContext(PrimaryContext&&) = delete;
  PrimaryContext& operator=(PrimaryContext&&) = delete;
  // All that was made in the context must be gone: with the last reference the context dies.
  ~PrimaryContext();

  [[nodiscard]] const Driver& driver() const noexcept { return *driver_; }
  [[nodiscard]] int ordinal() const noexcept { return ordinal_; }
  [[nodiscard]] Device device() const noexcept { return device_; }
  [[nodiscard]] Context handle() const noexcept { return handle_; }

 private:
  std::shared_ptr<const Driver> driver_;
  int ordinal_;
  Device device_ = 0;
  Context handle_ = nullptr;
};

// Makes a context current in the calling thread, and when it dies the one that was current before.
//
// Belongs to the thread that made it, and must die there, in reverse order of those made later. The
// primary context must outlive it.
class CurrentContext {
 public:
  // Throws CudaError.
  explicit CurrentContext(const PrimaryContext& context);
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;
  CurrentContext(CurrentContext&&) = delete;
  CurrentContext& operator=(CurrentContext&&) = delete;
  ~CurrentContext();

 private:
  const Driver& driver_;
};

// The same for destructors, which cannot throw: where the driver refuses, even when it is asked
// again, nothing is made current, and whatever is freed then is lost.
class CurrentContextIfPossible {
 public:
  explicit CurrentContextIfPossible(const PrimaryContext& context) noexcept;
  CurrentContextIfPossible(const CurrentContextIfPossible&) = delete;
  CurrentContextIfPossible& operator=(const CurrentContextIfPossible&) = delete;
  CurrentContextIfPossible(CurrentContextIfPossible&&) = delete;
  CurrentContextIfPossible& operator=(CurrentContextIfPossible&&) = delete;
  ~CurrentContextIfPossible();

 private:
  const Driver& driver_;
  bool pushed_;
};

}  // namespace pipelined::weights::cuda
