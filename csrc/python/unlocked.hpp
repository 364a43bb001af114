#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <utility>

namespace pipelined::python {

// A destructor may wait for threads and for the device, which nobody else need wait for.
template <typename Object>
struct Unlocked {
  std::shared_ptr<Object> object;

  explicit Unlocked(std::shared_ptr<Object> owned) : object(std::move(owned)) {}
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;
  Unlocked(Unlocked&&) = delete;
  Unlocked& operator=(Unlocked&&) = delete;
  // NOLINTNEXTLINE(bugprone-exception-escape): pybind11 fails only without an interpreter
  ~Unlocked() {
    const pybind11::gil_scoped_release unlocked;
    object = nullptr;
  }
};

}  // namespace pipelined::python
