#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/device.hpp"
#include "python/dlpack.hpp"
#include "python/errors.hpp"
#include "weights/checkpoint.hpp"
#include "weights/errors.hpp"
#include "weights/fault_reporter.hpp"

namespace {

namespace py = pybind11;
namespace weights = pipelined::weights;

const weights::TensorInfo& find(const weights::Checkpoint& checkpoint, const std::string& name) {
  const weights::TensorInfo* tensor = checkpoint.header->find(name);
  if (tensor == nullptr) {
    throw py::key_error(name);
  }
  return *tensor;
}

std::string dtype_of(const weights::TensorInfo& tensor) {
  return std::string(weights::dtype_name(tensor.dtype));
}

std::vector<std::string> names(const weights::Checkpoint& checkpoint) {
  std::vector<std::string> result;
  result.reserve(checkpoint.header->tensors().size());
  for (const std::size_t index : checkpoint.header->by_name()) {
    result.push_back(checkpoint.header->tensors()[index].name);
  }
  return result;
}

std::vector<std::string> names_by_offset(const weights::Checkpoint& checkpoint) {
  std::vector<std::string> result;
  result.reserve(checkpoint.header->tensors().size());
  for (const weights::TensorInfo& tensor : checkpoint.header->tensors()) {
    result.push_back(tensor.name);
  }
  return result;
}

std::optional<py::dict> metadata(const weights::Checkpoint& checkpoint) {
  const std::optional<weights::Metadata>& metadata = checkpoint.header->metadata();
  if (!metadata) {
    return std::nullopt;
  }
  py::dict result;
  for (const auto& [key, value] : *metadata) {
    result[py::str(key)] = value;
  }
  return result;
}

py::capsule exported(const weights::Checkpoint& checkpoint, const weights::TensorInfo& tensor) {
  try {
    return pipelined::python::to_dlpack(tensor, checkpoint.arena);
  } catch (weights::FormatError& error) {
    error.in_file(checkpoint.path);
    throw;
  }
}

py::capsule tensor(const weights::Checkpoint& checkpoint, const std::string& name) {
  return exported(checkpoint, find(checkpoint, name));
}

py::list tensors(const weights::Checkpoint& checkpoint) {
  py::list result;
  for (const weights::TensorInfo& tensor : checkpoint.header->tensors()) {
    result.append(py::make_tuple(tensor.name, dtype_of(tensor), exported(checkpoint, tensor)));
  }
  return result;
}

std::optional<double> finished(const weights::Progress& progress) {
  const auto instant = progress.finished();
  if (!instant) {
    return std::nullopt;
  }
  return std::chrono::duration<double>(instant->time_since_epoch()).count();
}

void bind_progress(const py::module_& module) {
  py::class_<weights::Progress, std::shared_ptr<weights::Progress>>(
      module, "Progress", "How far a load has got. Does not keep its memory alive.")
      .def_property_readonly("total_bytes", &weights::Progress::total_bytes)
      .def_property_readonly("loaded_bytes", &weights::Progress::loaded_bytes)
      .def_property_readonly("finished", finished,
                             "The instant on CLOCK_MONOTONIC, in seconds, at which the last byte "
                             "was in memory; None before.")
      .def_property_readonly("error", &weights::Progress::error,
                             "The errno with which reading ahead failed, or 0.");
}

void bind_checkpoint(const py::module_& module) {
  py::class_<weights::Checkpoint>(module, "Checkpoint",
                                  "One safetensors file, validated and mapped. Thread-safe.")
      .def(py::init([](const py::bytes& path) {
             const std::string name(path);
             const py::gil_scoped_release unlocked;
             return weights::Checkpoint::open(name);
           }),
           py::arg("path"))
      .def("names", names, "The tensors' names in alphabetical order.")
      .def("names_by_offset", names_by_offset, "The tensors' names in the order of the file.")
      .def("metadata", metadata, "The header's free-form part; None where it has none.")
      .def(
          "shape",
          [](const weights::Checkpoint& checkpoint, const std::string& name) {
            return find(checkpoint, name).shape;
          },
          py::arg("name"), "The shape in elements. Raises KeyError.")
      .def(
          "dtype",
          [](const weights::Checkpoint& checkpoint, const std::string& name) {
            return dtype_of(find(checkpoint, name));
          },
          py::arg("name"), "The dtype as the format spells it. Raises KeyError.")
      .def(
          "nbytes",
          [](const weights::Checkpoint& checkpoint, const std::string& name) {
            return find(checkpoint, name).bytes();
          },
          py::arg("name"), "The tensor's size in bytes. Raises KeyError.")
      .def("tensor", tensor, py::arg("name"), "The tensor as a DLPack capsule. Raises KeyError.")
      .def("tensors", tensors, "(name, dtype, DLPack capsule) of each, in the order of the file.")
      .def(
          "populate",
          [](const weights::Checkpoint& checkpoint) {
            const py::gil_scoped_release unlocked;
            checkpoint.arena->populate();
          },
          "Begins to read the whole file into memory, with threads; returns at once.")
      .def_property_readonly(
          "progress",
          [](const weights::Checkpoint& checkpoint) { return checkpoint.arena->progress(); })
      .def_property_readonly(
          "source",
          [](const weights::Checkpoint& checkpoint) {
            return std::string(weights::source_name(checkpoint.arena->source()));
          },
          "Where the bytes were when the file was opened: disk, page cache or unknown.");
}

}  // namespace

// What the macro expands to is pybind11's.
// NOLINTNEXTLINE(misc-const-correctness,cppcoreguidelines-pro-type-vararg)
PYBIND11_MODULE(_weights, module) {
  module.doc() = "Bindings of the C++ weight loader; only pipelined.weights uses them.";
  pipelined::python::bind_errors(module);
  bind_progress(module);
  bind_checkpoint(module);
  pipelined::python::bind_device(module);
  module.def("report_faults", weights::report_faults, py::arg("descriptor"), py::arg("prefix"),
             "Names the weights file on a descriptor where touching it raises SIGBUS.");
}
