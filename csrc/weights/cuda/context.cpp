#include "weights/cuda/context.hpp"

#include <utility>

namespace pipelined::weights::cuda {

PrimaryContext::PrimaryContext(std::shared_ptr<const Driver> driver, int ordinal)
    : driver_(std::move(driver)), ordinal_(ordinal) {
  driver_->init(0);
  driver_->device_get(&device_, ordinal_);
  driver_->device_primary_ctx_retain(&handle_, device_);
}

PrimaryContext::~PrimaryContext() {
  // Fails where the driver is gone already, at the end of the process or after a fork.
  static_cast<void>(driver_->device_primary_ctx_release.attempt(device_));
}

CurrentContext::CurrentContext(const PrimaryContext& context) : driver_(context.driver()) {
  driver_.ctx_push_current(context.handle());
}

CurrentContext::~CurrentContext() {
  Context popped = nullptr;
  // There is nobody to tell, and what follows in this thread pushes a context of its own.
  static_cast<void>(driver_.ctx_pop_current.attempt(&popped));
}

CurrentContextIfPossible::CurrentContextIfPossible(const PrimaryContext& context) noexcept
    : driver_(context.driver()),
      pushed_(driver_.ctx_push_current.attempt(context.handle()) == Result::success ||
              driver_.ctx_push_current.attempt(context.handle()) == Result::success) {}

CurrentContextIfPossible::~CurrentContextIfPossible() {
  if (pushed_) {
    Context popped = nullptr;
    static_cast<void>(driver_.ctx_pop_current.attempt(&popped));
  }
}

}  // namespace pipelined::weights::cuda
