#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "python/checkpoint.hpp"
#include "python/device.hpp"
#include "python/errors.hpp"
#include "python/weak_checkpoint.hpp"
#include "weights/fault_reporter.hpp"

// What the macro expands to is pybind11's.
// NOLINTNEXTLINE(misc-const-correctness,cppcoreguidelines-pro-type-vararg)
PYBIND11_MODULE(_weights, module) {
  module.doc() = "Bindings of the C++ weight loader; only pipelined.weights uses them.";
  pipelined::python::bind_errors(module);
  pipelined::python::bind_checkpoint(module);
  pipelined::python::bind_weak_checkpoint(module);
  pipelined::python::bind_device(module);
  module.def("report_faults", pipelined::weights::report_faults, pybind11::arg("descriptor"),
             pybind11::arg("prefix"),
             "Names the weights file on a descriptor where touching it raises SIGBUS.");
}
