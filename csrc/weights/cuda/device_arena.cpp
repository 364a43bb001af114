#include "weights/cuda/device_arena.hpp"

#include <algorithm>
#include <utility>

namespace pipelined::weights::cuda {
namespace {

Location location(const PrimaryContext& context) noexcept {
  return {.type = LocationType::device, .id = context.ordinal()};
}

AllocationProperties properties(const PrimaryContext& context) noexcept {
  return {.type = AllocationType::pinned,
          .requested_handle_types = HandleType::none,
          .location = location(context),
          .win32_handle_metadata = nullptr,
          .flags = {}};
}

}  // namespace

std::uint64_t DeviceArena::rounded(const PrimaryContext& context, std::uint64_t bytes) {
  const AllocationProperties wanted = properties(context);
  std::size_t granularity = 0;
  context.driver().mem_get_allocation_granularity(&granularity, &wanted, Granularity::minimum);
  return (bytes + granularity - 1) / granularity * granularity;
}

DeviceArena::DeviceArena(std::shared_ptr<const PrimaryContext> context, std::uint64_t bytes)
    : context_(std::move(context)), bytes_(bytes) {
  mappings_.reserve((bytes_ + max_allocation_bytes - 1) / max_allocation_bytes);
  if (bytes_ != 0) {
    context_->driver().mem_address_reserve(&base_, bytes_, 0, 0, 0);
  }
}

DeviceArena::~DeviceArena() {
  const CurrentContextIfPossible current(*context_);
  unmap();
  if (bytes_ != 0) {
    static_cast<void>(context_->driver().mem_address_free.attempt(base_, bytes_));
  }
}

void DeviceArena::map() {
  try {
    while (mapped_bytes_ < bytes_) {
      map_next(std::min(max_allocation_bytes, bytes_ - mapped_bytes_));
    }
    if (bytes_ != 0) {
      const AccessDescription access{.location = location(*context_),
                                     .flags = AccessFlags::read_write};
      context_->driver().mem_set_access(base_, bytes_, &access, 1);
    }
  } catch (...) {
    unmap();
    throw;
  }
}

void DeviceArena::map_next(std::uint64_t bytes) {
  const Driver& driver = context_->driver();
  const AllocationProperties wanted = properties(*context_);
  AllocationHandle handle = 0;
  driver.mem_create(&handle, bytes, &wanted, 0);
  const Result mapped = driver.mem_map.attempt(base_ + mapped_bytes_, bytes, 0, handle, 0);
  if (mapped == Result::success) {
    mappings_.push_back(bytes);
    mapped_bytes_ += bytes;
  }
  // The mapping keeps the memory, and nothing else needs to.
  const Result released = driver.mem_release.attempt(handle);
  driver.check(mapped, driver.mem_map.name());
  driver.check(released, driver.mem_release.name());
}

void DeviceArena::unmap() noexcept {
  while (!mappings_.empty()) {
    mapped_bytes_ -= mappings_.back();
    static_cast<void>(
        context_->driver().mem_unmap.attempt(base_ + mapped_bytes_, mappings_.back()));
    mappings_.pop_back();
  }
}

}  // namespace pipelined::weights::cuda
