#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "weights/cuda/context.hpp"

namespace pipelined::weights::cuda {

// A range of device addresses that are the arena's for as long as it lives, and physical memory
// behind them that can be given back and had again: so pointers into it stay valid, while asleep
// without anything behind them.
//
// The physical memory comes in a few large allocations. That nobody uses it any longer, be it a
// copy, a kernel or a host thread, must be made sure of before unmap(): the driver does not wait.
// Not thread-safe. Needs a context that is current, except that the destructor makes its own so.
class DeviceArena {
 public:
  // More at once would not be faster; less is easier for the driver to find.
  static constexpr std::uint64_t max_allocation_bytes = std::uint64_t{1} << 30U;

  // What an arena for so many bytes takes of the device. Throws CudaError.
  static std::uint64_t rounded(const PrimaryContext& context, std::uint64_t bytes);

  // Reserves addresses, no memory. `bytes` is a result of rounded(), and may be 0. Throws
  // CudaError.
  DeviceArena(std::shared_ptr<const PrimaryContext> context, std::uint64_t bytes);
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;
  DeviceArena(DeviceArena&&) = delete;
  DeviceArena& operator=(DeviceArena&&) = delete;
  ~DeviceArena();

  // Puts memory of unspecified content behind the addresses, all of them or, where it throws
  // CudaError, none.
  void map();
  // Gives the memory back. Cannot fail: an error that the driver reports here is one of earlier
  // work, and the memory is free all the same.
  void unmap() noexcept;

  [[nodiscard]] DevicePointer base() const noexcept { return base_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::uint64_t mapped_bytes() const noexcept { return mapped_bytes_; }

 private:
  void map_next(std::uint64_t bytes);

  std::shared_ptr<const PrimaryContext> context_;
  std::uint64_t bytes_;
  DevicePointer base_ = 0;
  // From the base on: the sizes of what is mapped.
  std::vector<std::uint64_t> mappings_;
  std::uint64_t mapped_bytes_ = 0;
};

}  // namespace pipelined::weights::cuda
