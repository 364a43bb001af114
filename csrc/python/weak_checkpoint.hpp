#pragma once

#include <pybind11/pybind11.h>

namespace pipelined::python {

// Binds WeakCheckpoint: a Checkpoint that does not keep its file mapped. Checkpoint must be bound.
void bind_weak_checkpoint(const pybind11::module_& module);

}  // namespace pipelined::python
