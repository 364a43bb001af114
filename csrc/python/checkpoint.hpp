#pragma once

#include <pybind11/pybind11.h>

namespace pipelined::python {

// Binds Checkpoint, a file that is mapped, and Progress.
void bind_checkpoint(const pybind11::module_& module);

}  // namespace pipelined::python
