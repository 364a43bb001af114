#include "python/device.hpp"

#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/device_checkpoint.hpp"
#include "python/unlocked.hpp"
#include "weights/checkpoint.hpp"
#include "weights/cuda/loading_device.hpp"

namespace pipelined::python {
namespace {

namespace py = pybind11;
namespace cuda = weights::cuda;

using Checkpoint = cuda::DeviceCheckpoint;
using Pointer = std::shared_ptr<Checkpoint>;

weights::ReadMode mode_from(const std::string& name) {
  if (name == "automatic") {
    return weights::ReadMode::automatic;
  }
  if (name == "buffered") {
    return weights::ReadMode::buffered;
  }
  if (name == "direct") {
    return weights::ReadMode::direct;
  }
  throw py::value_error("mode must be automatic, buffered or direct, not " + name);
}

// A device with what is alive on it, which tensors may hold and no Python object any longer.
// Under the interpreter's lock.
struct OpenDevice {
  cuda::LoadingDevice device;
  std::vector<std::weak_ptr<Checkpoint>> checkpoints;
};
using Device = Unlocked<OpenDevice>;

std::unique_ptr<Device> open_device(const py::bytes& library, int ordinal,
                                    std::uint64_t pinned_bytes,
                                    std::optional<std::uint64_t> device_bytes) {
  const std::string path(library);
  const py::gil_scoped_release unlocked;
  auto device =
      cuda::LoadingDevice::open(cuda::Driver::open(path), ordinal, pinned_bytes, device_bytes);
  return std::make_unique<Device>(std::make_shared<OpenDevice>(OpenDevice{std::move(device), {}}));
}

std::unique_ptr<Device> beside(const Device& device, int ordinal,
                               std::optional<std::uint64_t> device_bytes) {
  const py::gil_scoped_release unlocked;
  auto other = device.object->device.beside(ordinal, device_bytes);
  return std::make_unique<Device>(std::make_shared<OpenDevice>(OpenDevice{std::move(other), {}}));
}

// `open` returns the files; it may take its time.
template <typename Open>
std::unique_ptr<Loaded> start(const Device& device, const Open& open, const std::string& mode,
                              bool wait_for_memory) {
  const Checkpoint::Options options{.mode = mode_from(mode), .wait_for_memory = wait_for_memory};
  Pointer started;
  {
    const py::gil_scoped_release unlocked;
    started = Checkpoint::start(device.object->device, open(), options);
  }
  auto& checkpoints = device.object->checkpoints;
  std::erase_if(checkpoints, [](const auto& checkpoint) { return checkpoint.expired(); });
  checkpoints.push_back(started);
  return std::make_unique<Loaded>(std::move(started));
}

std::unique_ptr<Loaded> load(const Device& device, const std::vector<py::bytes>& paths,
                             const std::string& mode, bool wait_for_memory) {
  const std::vector<std::string> names(paths.begin(), paths.end());
  return start(device, [&] { return weights::CheckpointFile::open(names); }, mode, wait_for_memory);
}

std::unique_ptr<Loaded> load_open(const Device& device,
                                  const std::vector<weights::Checkpoint>& checkpoints,
                                  const std::string& mode, bool wait_for_memory) {
  const auto reopen = [&] {
    std::vector<weights::CheckpointFile> files;
    files.reserve(checkpoints.size());
    for (const weights::Checkpoint& checkpoint : checkpoints) {
      files.push_back(checkpoint.reopened());
    }
    return files;
  };
  return start(device, reopen, mode, wait_for_memory);
}

py::list live(const Device& device) {
  py::list result;
  for (const std::weak_ptr<Checkpoint>& checkpoint : device.object->checkpoints) {
    if (Pointer pointer = checkpoint.lock()) {
      result.append(py::cast(std::make_unique<Loaded>(std::move(pointer))));
    }
  }
  return result;
}

}  // namespace

void bind_device(const py::module_& module) {
  py::class_<Device>(module, "Device",
                     "A CUDA device that is loaded onto, with its budgets. Thread-safe.")
      .def(py::init(&open_device), py::arg("library"), py::arg("ordinal"), py::arg("pinned_bytes"),
           py::arg("device_bytes"))
      .def("beside", beside, py::arg("ordinal"), py::arg("device_bytes"),
           "Another device of the same driver, with the same pinned memory.")
      .def("load", load, py::arg("paths"), py::arg("mode"), py::arg("wait_for_memory"),
           "Begins to load files, and returns once they are open and their headers checked.")
      .def("load_open", load_open, py::arg("checkpoints"), py::arg("mode"),
           py::arg("wait_for_memory"),
           "The same with files that are open, whatever their paths name by now.")
      .def("live", live, "What was loaded and is still held, by a tensor or otherwise.")
      .def(
          "trim",
          [](const Device& device) {
            const py::gil_scoped_release unlocked;
            device.object->device.ring->trim();
          },
          "Frees the pinned memory that no load is using.");
  bind_device_checkpoint(module);
}

}  // namespace pipelined::python
