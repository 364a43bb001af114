#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>

#include "weights/header.hpp"
#include "weights/host_arena.hpp"

namespace pipelined::python {

// Wraps one tensor in a DLPack capsule (https://dmlc.github.io/dlpack), without a copy. The
// capsule, and then the consumer's tensor, holds a reference on the arena.
//
// Each tensor has a capsule and with it a storage of its own at offset 0: with one storage for the
// whole file, saving or copying one tensor would save or copy the file.
//
// The element types that every DLPack consumer knows are delivered as they are. The others come as
// unsigned or signed integers of the same width, for the consumer to reinterpret; F4 as bytes of
// two elements each, hence with half the last dimension. Throws UnsupportedDtype for F6 and for an
// F4 tensor whose last dimension is odd.
pybind11::capsule to_dlpack(const weights::TensorInfo& tensor,
                            std::shared_ptr<weights::HostArena> arena);

// The same for a tensor at an address of a CUDA device, which the owner keeps valid. Ordering the
// consumer's stream after the load is not the capsule's business: the protocol has that done before
// the capsule is handed over.
pybind11::capsule to_dlpack(const weights::TensorInfo& tensor, std::uintptr_t address, int device,
                            std::shared_ptr<const void> owner);

}  // namespace pipelined::python
