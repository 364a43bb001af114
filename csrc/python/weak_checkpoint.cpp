#include "python/weak_checkpoint.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "weights/checkpoint.hpp"

namespace pipelined::python {
namespace {

namespace py = pybind11;
using weights::TensorInfo;

// The address is of use only while the arena lives, so it is asked for with the arena in hand.
struct WeakCheckpoint {
  std::string path;
  std::shared_ptr<const weights::Header> header;
  std::weak_ptr<weights::HostArena> arena;
  std::uintptr_t begin;

  explicit WeakCheckpoint(const weights::Checkpoint& checkpoint)
      : path(checkpoint.path),
        header(checkpoint.header),
        arena(checkpoint.arena),
        // NOLINTNEXTLINE(*-reinterpret-cast): to compare with what a consumer's tensor says
        begin(reinterpret_cast<std::uintptr_t>(checkpoint.arena->at(0))) {}

  [[nodiscard]] std::optional<weights::Checkpoint> lock() const {
    if (auto alive = arena.lock()) {
      return weights::Checkpoint{path, header, std::move(alive)};
    }
    return std::nullopt;
  }

  [[nodiscard]] std::optional<std::string> name_at(std::uintptr_t address) const {
    if (address < begin) {
      return std::nullopt;
    }
    const std::uint64_t offset = address - begin;
    const auto& tensors = header->tensors();
    // In the order of their offsets; those without bytes are beside the one that begins there.
    auto found = std::ranges::lower_bound(tensors, offset, {}, &TensorInfo::begin);
    while (found != tensors.end() && found->begin == offset && found->bytes() == 0) {
      ++found;
    }
    if (found == tensors.end() || found->begin != offset) {
      return std::nullopt;
    }
    return found->name;
  }
};

}  // namespace

void bind_weak_checkpoint(const py::module_& module) {
  py::class_<WeakCheckpoint>(module, "WeakCheckpoint",
                             "A Checkpoint that does not keep its file mapped. Thread-safe.")
      .def(py::init<const weights::Checkpoint&>(), py::arg("checkpoint"))
      .def("lock", &WeakCheckpoint::lock, "The checkpoint; None once its file is mapped no longer.")
      .def_property_readonly(
          "begin", [](const WeakCheckpoint& checkpoint) { return checkpoint.begin; },
          "The address at which the tensors' bytes begin.")
      .def("name_at", &WeakCheckpoint::name_at, py::arg("address"),
           "The tensor that begins at an address and is not empty, or None. Only while the file is "
           "mapped does that mean anything.");
}

}  // namespace pipelined::python
