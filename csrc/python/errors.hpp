#pragma once

#include <pybind11/pybind11.h>

namespace pipelined::python {

// Adds the exceptions to the module and has pybind11 raise them for those of the core:
// FormatError and its subclasses become Python classes of the same name below
// safetensors.SafetensorError, with the attributes `path` and `tensor`; the others become
// classes of the same name below LoadError, itself a SafetensorError, with attributes named like
// the C++ members; IoError becomes OSError, of which Python makes FileNotFoundError,
// PermissionError and so on by the errno.
void bind_errors(pybind11::module_& module);

}  // namespace pipelined::python
