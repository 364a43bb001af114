#include "weights/cuda/loading_device.hpp"

#include <algorithm>
#include <utility>

#include "weights/errors.hpp"
#include "weights/one_process.hpp"
#include "weights/plan.hpp"
#include "weights/source.hpp"

namespace pipelined::weights::cuda {
namespace {

std::shared_ptr<Budget> memory_of(const PrimaryContext& context,
                                  std::optional<std::uint64_t> bytes) {
  std::size_t total = 0;
  context.driver().device_total_mem(&total, context.device());
  return Budget::create("device memory", std::min<std::uint64_t>(bytes.value_or(total), total));
}

}  // namespace

LoadingDevice LoadingDevice::open(std::shared_ptr<const Driver> driver, int ordinal,
                                  std::uint64_t pinned_bytes,
                                  std::optional<std::uint64_t> device_bytes) {
  const std::size_t slab_bytes = slab_bytes_for(pinned_bytes);
  auto context = std::make_shared<const PrimaryContext>(driver, ordinal);
  auto memory = memory_of(*context, device_bytes);
  auto ring = for_this_process(std::make_unique<PinnedRing>(
      context, slab_bytes, Budget::create("pinned memory", pinned_bytes)));
  return {std::move(driver), std::move(context), std::move(ring), std::move(memory)};
}

LoadingDevice LoadingDevice::beside(int ordinal, std::optional<std::uint64_t> device_bytes) const {
  auto other = std::make_shared<const PrimaryContext>(driver, ordinal);
  auto other_memory = memory_of(*other, device_bytes);
  return {driver, std::move(other), ring, std::move(other_memory)};
}

std::size_t slab_bytes_for(std::uint64_t pinned_bytes) {
  const std::uint64_t bytes =
      std::min(pinned_bytes / least_slabs / chunk_granularity * chunk_granularity,
               preferred_chunk_bytes + ChunkSource::slab_slack);
  const std::uint64_t least = chunk_granularity + ChunkSource::slab_slack;
  if (bytes < least) {
    throw OverBudget("pinned memory", least * least_slabs, pinned_bytes);
  }
  return bytes;
}

std::uint64_t chunk_bytes_for(std::size_t slab_bytes) noexcept {
  return slab_bytes - ChunkSource::slab_slack;
}

}  // namespace pipelined::weights::cuda
