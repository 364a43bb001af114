#pragma once

#include <pybind11/pybind11.h>

namespace pipelined::python {

// Adds what loads onto CUDA devices: Device and DeviceCheckpoint.
void bind_device(const pybind11::module_& module);

}  // namespace pipelined::python
