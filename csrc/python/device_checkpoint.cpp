#include "python/device_checkpoint.hpp"

#include <pybind11/stl.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "python/checkpoint.hpp"
#include "python/dlpack.hpp"
#include "weights/errors.hpp"

namespace pipelined::python {
namespace {

namespace py = pybind11;
namespace cuda = weights::cuda;

using Checkpoint = cuda::DeviceCheckpoint;
using Pointer = std::shared_ptr<Checkpoint>;

const char* name_of(Checkpoint::State state) {
  switch (state) {
    case Checkpoint::State::loading:
      return "loading";
    case Checkpoint::State::enqueued:
      return "enqueued";
    case Checkpoint::State::awake:
      return "awake";
    case Checkpoint::State::asleep:
      return "asleep";
    case Checkpoint::State::failed:
      break;
  }
  return "failed";
}

py::dict stats_of(const Loaded& loaded) {
  const Checkpoint::Stats stats = loaded.object->stats();
  py::dict result;
  result["state"] = name_of(stats.state);
  result["tensor_bytes"] = stats.tensor_bytes;
  result["resident_bytes"] = stats.resident_bytes;
  result["saved_bytes"] = stats.saved_bytes;
  result["chunks"] = stats.chunks;
  result["buffered_bytes"] = stats.read.buffered_bytes;
  result["direct_bytes"] = stats.read.direct_bytes;
  result["load_seconds"] = stats.load_seconds;
  result["sleep_seconds"] = stats.sleep_seconds;
  result["wake_seconds"] = stats.wake_seconds;
  return result;
}

const weights::TensorInfo& tensor_of(const Checkpoint& checkpoint, std::size_t file,
                                     std::size_t tensor) {
  if (file >= checkpoint.files().size() ||
      tensor >= checkpoint.files()[file].header->tensors().size()) {
    throw py::index_error();
  }
  return checkpoint.files()[file].header->tensors()[tensor];
}

py::list entries(const Loaded& loaded, std::size_t file) {
  const auto files = loaded.object->files();
  if (file >= files.size()) {
    throw py::index_error();
  }
  return entries_of(*files[file].header);
}

py::capsule capsule(const Loaded& loaded, std::size_t file, std::size_t tensor) {
  const Pointer& checkpoint = loaded.object;
  const weights::TensorInfo& info = tensor_of(*checkpoint, file, tensor);
  {
    const py::gil_scoped_release unlocked;
    checkpoint->wait_enqueued();
  }
  try {
    return to_dlpack(info, checkpoint->address(file, tensor), checkpoint->device(), checkpoint);
  } catch (weights::FormatError& error) {
    error.in_file(checkpoint->files()[file].file.path());
    throw;
  }
}

py::bytes read_back(const Loaded& loaded, std::size_t file, std::size_t tensor) {
  const weights::TensorInfo& info = tensor_of(*loaded.object, file, tensor);
  std::vector<std::byte> buffer(info.bytes());
  {
    const py::gil_scoped_release unlocked;
    loaded.object->read_back(file, tensor, buffer);
  }
  return {reinterpret_cast<const char*>(buffer.data()), buffer.size()};  // NOLINT(*-reinterpret-*)
}

py::tuple news(const Loaded& loaded, const std::string& state, std::uint64_t bytes,
               unsigned milliseconds) {
  Checkpoint::Status seen{.loaded_bytes = bytes};
  // One that is not known is news at once.
  seen.state = Checkpoint::State::failed;
  for (const auto known : {Checkpoint::State::loading, Checkpoint::State::enqueued,
                           Checkpoint::State::awake, Checkpoint::State::asleep}) {
    if (state == name_of(known)) {
      seen.state = known;
    }
  }
  Checkpoint::Status status;
  {
    const py::gil_scoped_release unlocked;
    status = loaded.object->wait_for_news(seen, std::chrono::milliseconds(milliseconds));
  }
  return py::make_tuple(std::string(name_of(status.state)), status.loaded_bytes, status.total_bytes,
                        status.loaded_tensors, status.total_tensors);
}

template <typename Action>
auto unlocked(Action action) {
  return [action](const Loaded& loaded) {
    const py::gil_scoped_release released;
    action(*loaded.object);
  };
}

}  // namespace

void bind_device_checkpoint(const py::module_& module) {
  py::class_<Loaded>(module, "DeviceCheckpoint",
                     "Files in the memory of a CUDA device. Thread-safe. Holds the memory, as each "
                     "of its capsules does.")
      .def("wait", unlocked([](Checkpoint& checkpoint) { checkpoint.wait(); }),
           "Waits until every byte is on the device; raises what the load failed with.")
      .def("wait_enqueued", unlocked([](Checkpoint& checkpoint) { checkpoint.wait_enqueued(); }),
           "Waits until a stream may be made to wait for the bytes.")
      .def("cancel", unlocked([](Checkpoint& checkpoint) { checkpoint.cancel(); }))
      .def("wake", unlocked([](Checkpoint& checkpoint) { checkpoint.wake(); }))
      .def(
          "sleep",
          [](const Loaded& loaded, bool unmodified) {
            const py::gil_scoped_release released;
            loaded.object->sleep(unmodified);
          },
          py::arg("unmodified"))
      .def(
          "make_wait",
          [](const Loaded& loaded, std::uintptr_t stream) {
            const py::gil_scoped_release released;
            // NOLINTNEXTLINE(*-reinterpret-cast,*-int-to-ptr): a handle that came as an integer
            loaded.object->make_wait(reinterpret_cast<cuda::Stream>(stream));
          },
          py::arg("stream"), "Has a stream, given by its handle, wait for the copies.")
      .def("news", news, py::arg("state"), py::arg("loaded_bytes"), py::arg("milliseconds"),
           "Waits for something beyond a state and a count; returns state, bytes, of how many, "
           "tensors, of how many.")
      .def("stats", stats_of)
      .def("entries", entries, py::arg("file"),
           "(name, dtype, shape, bytes) of each tensor of a file, in the order of the file.")
      .def("capsule", capsule, py::arg("file"), py::arg("tensor"),
           "A tensor as a DLPack capsule. The consumer's stream must be made to wait first.")
      .def(
          "address",
          [](const Loaded& loaded, std::size_t file, std::size_t tensor) {
            static_cast<void>(tensor_of(*loaded.object, file, tensor));
            return loaded.object->address(file, tensor);
          },
          py::arg("file"), py::arg("tensor"))
      .def("read_back", read_back, py::arg("file"), py::arg("tensor"),
           "A tensor's bytes, copied from the device.")
      .def("paths",
           [](const Loaded& loaded) {
             py::list result;
             for (const weights::CheckpointFile& file : loaded.object->files()) {
               result.append(py::bytes(file.file.path()));
             }
             return result;
           })
      .def_property_readonly("ordinal",
                             [](const Loaded& loaded) { return loaded.object->device(); })
      .def(
          "progress", [](const Loaded& loaded) { return loaded.object->progress(); },
          "The progress of each file.")
      .def(
          "source",
          [](const Loaded& loaded, std::size_t file) {
            return std::string(weights::source_name(loaded.object->source(file)));
          },
          py::arg("file"));
}

}  // namespace pipelined::python
