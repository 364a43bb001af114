#pragma once

#include <dlfcn.h>

#include <memory>
#include <stdexcept>
#include <string>

#include "fake_cuda/control.h"
#include "testing.hpp"
#include "weights/cuda/driver.hpp"

namespace pipelined::testing {

// The fake driver as tests use it: opened by path, in its first state, and reset again at the end.
// One at a time. All that was made with the driver has to be gone before.
class FakeDriver {
 public:
  explicit FakeDriver(const Context& context) : path((context.libraries / name).string()) {
    driver = weights::cuda::Driver::open(path);
    handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    find("fake_defaults", defaults);
    find("fake_configure", configure_);
    find("fake_fail", fail);
    find("fake_fail_copy", fail_copy);
    find("fake_calls", calls);
    find("fake_function", function);
    find("fake_hold", hold);
    find("fake_drain", drain);
    find("fake_read_device", read_device);
    find("fake_write_device", write_device);
    find("fake_statistics", statistics);
    find("fake_misuse", misuse);
    find("fake_leaks", leaks);
    find("fake_report", report);
    find("fake_forget", forget);
    find("fake_reset", reset);
    reset();
  }
  FakeDriver(const FakeDriver&) = delete;
  FakeDriver& operator=(const FakeDriver&) = delete;
  FakeDriver(FakeDriver&&) = delete;
  FakeDriver& operator=(FakeDriver&&) = delete;
  ~FakeDriver() {
    reset();
    static_cast<void>(::dlclose(handle_));
  }

  // The default configuration with changes: configure([](auto& it) { it.lazy = 1; }).
  template <typename Change>
  void configure(Change change) const {
    fake_configuration configuration{};
    defaults(&configuration);
    change(configuration);
    configure_(&configuration);
  }

  std::string path;
  std::shared_ptr<const weights::cuda::Driver> driver;

  // As in control.h.
  decltype(&fake_defaults) defaults = nullptr;
  decltype(&fake_fail) fail = nullptr;
  decltype(&fake_fail_copy) fail_copy = nullptr;
  decltype(&fake_calls) calls = nullptr;
  decltype(&fake_function) function = nullptr;
  decltype(&fake_hold) hold = nullptr;
  decltype(&fake_drain) drain = nullptr;
  decltype(&fake_read_device) read_device = nullptr;
  decltype(&fake_write_device) write_device = nullptr;
  decltype(&fake_statistics) statistics = nullptr;
  decltype(&fake_misuse) misuse = nullptr;
  decltype(&fake_leaks) leaks = nullptr;
  decltype(&fake_report) report = nullptr;
  decltype(&fake_forget) forget = nullptr;
  decltype(&fake_reset) reset = nullptr;

 private:
  static constexpr const char* name = "libfake_cuda.so";

  template <typename Pointer>
  void find(const char* symbol, Pointer& function_pointer) {
    function_pointer = reinterpret_cast<Pointer>(::dlsym(handle_, symbol));
    if (function_pointer == nullptr) {
      throw std::runtime_error(std::string("the fake driver has no ") + symbol);
    }
  }

  decltype(&fake_configure) configure_ = nullptr;
  void* handle_ = nullptr;
};

}  // namespace pipelined::testing
