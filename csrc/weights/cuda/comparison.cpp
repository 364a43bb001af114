#include "weights/cuda/comparison.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <utility>

#include "weights/aligned_buffer.hpp"
#include "weights/cuda/stream.hpp"
#include "weights/workers.hpp"

namespace pipelined::weights::cuda {
namespace {

class Comparing {
 public:
  Comparing(const Comparison& comparison, std::stop_source stop)
      : comparison_(comparison), stop_(std::move(stop)) {}

  SavedChunks run() {
    Workers workers(
        Workers::count_for(comparison_.chunks.size()), stop_, [this] { work(); }, [] {});
    workers.join();
    workers.rethrow();
    return std::move(changed_);
  }

 private:
  void work() {
    const CurrentContext current(comparison_.context);
    const OwnStream stream(comparison_.context);
    // What the file has is read into ordinary memory: holding a second slab could leave two
    // threads waiting for each other.
    AlignedBuffer buffer;
    const std::span expected = buffer.get(comparison_.ring.slab_bytes(), chunk_granularity);
    while (!stop_.stop_requested()) {
      const std::size_t index = next_.fetch_add(1);
      if (index >= comparison_.chunks.size()) {
        break;
      }
      compare(comparison_.chunks[index], stream, expected);
    }
  }

  void compare(const Chunk& chunk, const OwnStream& stream, std::span<std::byte> expected) {
    PinnedRing::Lease slab = comparison_.ring.acquire(stop_.get_token());
    const Driver& driver = comparison_.context.driver();
    const std::byte* begin = nullptr;
    try {
      driver.memcpy_dtoh_async(slab.bytes().data(), comparison_.base + chunk.arena_offset,
                               chunk.bytes, stream.handle());
      begin = comparison_.source.read(chunk, expected);
      driver.stream_synchronize(stream.handle());
    } catch (...) {
      if (!stream.settle()) {
        slab.discard();
      }
      throw;
    }
    const std::span<const std::byte> actual = slab.bytes().first(chunk.bytes);
    if (std::memcmp(actual.data(), begin, actual.size()) != 0) {
      std::vector<std::byte> copy(actual.begin(), actual.end());
      const std::scoped_lock lock(mutex_);
      changed_.emplace(chunk.arena_offset, std::move(copy));
    }
  }

  const Comparison& comparison_;
  std::stop_source stop_;
  std::atomic<std::size_t> next_{0};
  std::mutex mutex_;
  SavedChunks changed_;
};

}  // namespace

SavedChunks Comparison::changed(const std::stop_source& stop) const {
  return chunks.empty() ? SavedChunks() : Comparing(*this, stop).run();
}

std::byte* OverlaidSource::read(const Chunk& chunk, std::span<std::byte> slab) const {
  const auto found = saved_.find(chunk.arena_offset);
  if (found == saved_.end()) {
    return below_.read(chunk, slab);
  }
  std::ranges::copy(found->second, slab.begin());
  return slab.data();
}

}  // namespace pipelined::weights::cuda
