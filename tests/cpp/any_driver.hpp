#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>

#include "fake_driver.hpp"
#include "testing.hpp"
#include "weights/cuda/driver.hpp"

namespace pipelined::testing {

// The driver for tests of what has to hold with every driver: the one that the environment's
// PIPELINED_TEST_CUDA_DRIVER names, so that a machine with a GPU runs them on that, or the fake
// one.
class AnyDriver {
 public:
  explicit AnyDriver(const Context& context) {
    const char* const named = std::getenv("PIPELINED_TEST_CUDA_DRIVER");  // NOLINT(*-mt-unsafe)
    if (named == nullptr || *named == '\0') {
      fake_.emplace(context);
      driver = fake_->driver;
      return;
    }
    driver = weights::cuda::Driver::open(named);
    // Not in the table: nothing but tests needs to know what else is on the device. Whoever sets
    // the environment may have any library opened.
    // NOLINTNEXTLINE(clang-analyzer-optin.taint.GenericTaint)
    void* const handle = ::dlopen(named, RTLD_NOW | RTLD_LOCAL);
    free_and_total_ = reinterpret_cast<FreeAndTotal>(::dlsym(handle, "cuMemGetInfo_v2"));
    if (free_and_total_ == nullptr) {
      throw std::runtime_error("the driver has no cuMemGetInfo_v2");
    }
  }

  // Of physical memory of the device whose context is current.
  [[nodiscard]] std::size_t device_bytes() const {
    if (fake_) {
      return fake_->statistics(FAKE_DEVICE_BYTES);
    }
    std::size_t free = 0;
    std::size_t total = 0;
    driver->check(free_and_total_(&free, &total), "cuMemGetInfo_v2");
    return total - free;
  }

  // What the driver has to say once all that was made with it is gone. Real ones say nothing.
  [[nodiscard]] std::string report() const { return fake_ ? fake_->report() : ""; }

  std::shared_ptr<const weights::cuda::Driver> driver;

 private:
  using FreeAndTotal = weights::cuda::Result (*)(std::size_t*, std::size_t*);

  std::optional<FakeDriver> fake_;
  FreeAndTotal free_and_total_ = nullptr;
};

}  // namespace pipelined::testing
