#include "python/checkpoint.hpp"

#include <pybind11/stl.h>

#include <bit>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/dlpack.hpp"
#include "weights/checkpoint.hpp"
#include "weights/errors.hpp"

namespace pipelined::python {
namespace {

namespace py = pybind11;
using weights::HostArena;

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
    return to_dlpack(tensor, checkpoint.arena);
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

std::uintptr_t address(const weights::Checkpoint& checkpoint, const std::string& name) {
  const weights::TensorInfo& tensor = find(checkpoint, name);
  return tensor.bytes() == 0 ? 0
                             : std::bit_cast<std::uintptr_t>(checkpoint.arena->at(tensor.begin));
}

bool untouched(const weights::Checkpoint& checkpoint, const std::string& name) {
  const weights::TensorInfo& tensor = find(checkpoint, name);
  const py::gil_scoped_release unlocked;
  try {
    return checkpoint.arena->untouched(tensor.begin, tensor.bytes());
  } catch (const weights::IoError&) {
    return false;
  }
}

std::optional<double> finished(const weights::Progress& progress) {
  const auto instant = progress.finished();
  if (!instant) {
    return std::nullopt;
  }
  return std::chrono::duration<double>(instant->time_since_epoch()).count();
}

const char* name_of(HostArena::State state) {
  switch (state) {
    case HostArena::State::loading:
      return "loading";
    case HostArena::State::awake:
      return "awake";
    case HostArena::State::asleep:
      return "asleep";
    case HostArena::State::failed:
      break;
  }
  return "failed";
}

std::string state(const weights::Checkpoint& checkpoint) {
  const py::gil_scoped_release unlocked;
  return name_of(checkpoint.arena->state());
}

py::tuple news(const weights::Checkpoint& checkpoint, std::uint64_t bytes, unsigned milliseconds) {
  HostArena::Status status;
  {
    const py::gil_scoped_release unlocked;
    status = checkpoint.arena->wait_for_news(bytes, std::chrono::milliseconds(milliseconds));
  }
  return py::make_tuple(std::string(name_of(status.state)), status.loaded_bytes);
}

py::dict stats(const weights::Checkpoint& checkpoint) {
  HostArena::Stats stats;
  {
    const py::gil_scoped_release unlocked;
    stats = checkpoint.arena->stats();
  }
  py::dict result;
  result["state"] = name_of(stats.state);
  result["tensor_bytes"] = stats.tensor_bytes;
  result["resident_bytes"] = stats.resident_bytes;
  result["saved_bytes"] = stats.copied_bytes;
  result["chunks"] = stats.steps;
  result["buffered_bytes"] = stats.read_bytes;
  result["direct_bytes"] = 0;
  result["load_seconds"] = stats.load_seconds;
  result["sleep_seconds"] = stats.sleep_seconds;
  result["wake_seconds"] = stats.wake_seconds;
  return result;
}

// A member of the arena, without the interpreter's lock.
template <typename Member>
auto unlocked(Member member) {
  return [member](const weights::Checkpoint& checkpoint) {
    const py::gil_scoped_release released;
    (checkpoint.arena.get()->*member)();
  };
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

}  // namespace

py::list entries_of(const weights::Header& header) {
  py::list result;
  for (const weights::TensorInfo& tensor : header.tensors()) {
    result.append(py::make_tuple(tensor.name, dtype_of(tensor), tensor.shape, tensor.bytes()));
  }
  return result;
}

void bind_checkpoint(const py::module_& module) {
  bind_progress(module);
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
      .def(
          "entries",
          [](const weights::Checkpoint& checkpoint) { return entries_of(*checkpoint.header); },
          "(name, dtype, shape, bytes) of each tensor, in the order of the file.")
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
      .def("address", address, py::arg("name"),
           "The address of the tensor's bytes; 0 where it has none. Raises KeyError.")
      .def("untouched", untouched, py::arg("name"),
           "Whether no page that has bytes of the tensor was written to; False also where that "
           "cannot be told. Raises KeyError.")
      .def("tensor", tensor, py::arg("name"), "The tensor as a DLPack capsule. Raises KeyError.")
      .def("tensors", tensors, "(name, dtype, DLPack capsule) of each, in the order of the file.")
      .def("populate", unlocked(&HostArena::populate),
           "Begins to read the whole file into memory, with threads; returns at once.")
      .def("cancel", unlocked(&HostArena::cancel), "Ends reading ahead; does not wait.")
      .def("sleep", unlocked(&HostArena::sleep),
           "Gives back the pages that nobody has written to. Raises FileChanged, OSError.")
      .def("wake", unlocked(&HostArena::wake),
           "Begins to read everything again; returns at once. Raises FileChanged.")
      .def("check", unlocked(&HostArena::check), "Raises what reading ahead failed with.")
      .def("news", news, py::arg("loaded_bytes"), py::arg("milliseconds"),
           "Waits for more bytes than so many, or the end; returns the state and the bytes.")
      .def("stats", stats, "Raises OSError where the kernel does not tell what is in memory.")
      .def_property_readonly("state", state)
      .def_property_readonly(
          "path", [](const weights::Checkpoint& checkpoint) { return py::bytes(checkpoint.path); })
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

}  // namespace pipelined::python
