#pragma once

#include <pybind11/pybind11.h>

#include "weights/header.hpp"

namespace pipelined::python {

// (name, dtype, shape, bytes) of each tensor, in the order of the file.
pybind11::list entries_of(const weights::Header& header);

// Binds Checkpoint, a file that is mapped, and Progress.
void bind_checkpoint(const pybind11::module_& module);

}  // namespace pipelined::python
