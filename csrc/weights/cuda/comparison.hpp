#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <stop_token>
#include <vector>

#include "weights/cuda/context.hpp"
#include "weights/cuda/pinned_ring.hpp"
#include "weights/plan.hpp"
#include "weights/source.hpp"

namespace pipelined::weights::cuda {

// The content of chunks that is nowhere but here, by the chunk's offset in the arena.
using SavedChunks = std::map<std::uint64_t, std::vector<std::byte>>;

// Which chunks of an arena are no longer what the source has, with what they are now.
//
// Every chunk is copied to the host and compared: nothing else notices each write, whoever's kernel
// did it. That takes about as long as the load did, and host memory for what differs.
struct Comparison {
  const PrimaryContext& context;
  PinnedRing& ring;
  const ChunkSource& source;
  std::span<const Chunk> chunks;
  // Where the arena begins; mapped, and nobody writes to it.
  DevicePointer base = 0;

  // Throws the first failure, of the source or the driver, and Cancelled when it is told to stop.
  // However it ends, no read or copy of it is under way then.
  [[nodiscard]] SavedChunks changed(const std::stop_source& stop) const;
};

// The chunks that were saved as they were saved, and the others from another source.
class OverlaidSource : public ChunkSource {
 public:
  // Both must outlive this, and not change.
  OverlaidSource(const ChunkSource& below, const SavedChunks& saved)
      : below_(below), saved_(saved) {}

  [[nodiscard]] std::byte* read(const Chunk& chunk, std::span<std::byte> slab) const override;
  void check_unchanged() const override { below_.check_unchanged(); }

 private:
  const ChunkSource& below_;
  const SavedChunks& saved_;
};

}  // namespace pipelined::weights::cuda
