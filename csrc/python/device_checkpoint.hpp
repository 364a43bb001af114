#pragma once

#include <pybind11/pybind11.h>

#include "python/unlocked.hpp"
#include "weights/cuda/device_checkpoint.hpp"

namespace pipelined::python {

// What Python has of files that were loaded onto a device.
using Loaded = Unlocked<weights::cuda::DeviceCheckpoint>;

// Binds DeviceCheckpoint. Progress must be bound.
void bind_device_checkpoint(const pybind11::module_& module);

}  // namespace pipelined::python
