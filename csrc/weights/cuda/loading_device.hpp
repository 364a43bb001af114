#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "weights/budget.hpp"
#include "weights/cuda/context.hpp"
#include "weights/cuda/pinned_ring.hpp"

namespace pipelined::weights::cuda {

// What all loads onto one device share. Copies share it as well. Thread-safe.
struct LoadingDevice {
  // With a ring of its own. `device_bytes` is the budget; nothing stands for all that the device
  // has. Throws CudaError, and OverBudget where so little may be pinned that nothing could be read.
  static LoadingDevice open(std::shared_ptr<const Driver> driver, int ordinal,
                            std::uint64_t pinned_bytes, std::optional<std::uint64_t> device_bytes);
  // Another device, with the same ring. Throws CudaError.
  [[nodiscard]] LoadingDevice beside(int ordinal, std::optional<std::uint64_t> device_bytes) const;

  std::shared_ptr<const Driver> driver;
  std::shared_ptr<const PrimaryContext> context;
  // The process's, which other devices use too.
  std::shared_ptr<PinnedRing> ring;
  // Of the device's memory.
  std::shared_ptr<Budget> memory;
};

// What a slab holds, where the pinned memory allows: copies as large as this run at the link's full
// speed, and a load of any size still has many of them to overlap.
inline constexpr std::uint64_t preferred_chunk_bytes = std::uint64_t{8} << 20U;
// Fewer could not overlap reading with copying.
inline constexpr std::uint64_t least_slabs = 4;

// The size of a ring's slabs for a budget of pinned memory: smaller ones where it is tight.
// Throws OverBudget where it is too small for any.
[[nodiscard]] std::size_t slab_bytes_for(std::uint64_t pinned_bytes);

// The largest chunk that fits a slab; see ChunkSource.
[[nodiscard]] std::uint64_t chunk_bytes_for(std::size_t slab_bytes) noexcept;

}  // namespace pipelined::weights::cuda
