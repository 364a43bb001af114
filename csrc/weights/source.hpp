#pragma once

#include <cstddef>
#include <span>

#include "weights/plan.hpp"

namespace pipelined::weights {

// Whence the bytes of chunks come. Thread-safe: several threads read different chunks at once.
class ChunkSource {
 public:
  // A slab for chunks of N bytes has N + slab_slack: room for the alignment that O_DIRECT wants.
  static constexpr std::size_t slab_slack = 8192;

  ChunkSource() = default;
  ChunkSource(const ChunkSource&) = delete;
  ChunkSource& operator=(const ChunkSource&) = delete;
  ChunkSource(ChunkSource&&) = delete;
  ChunkSource& operator=(ChunkSource&&) = delete;
  virtual ~ChunkSource() = default;

  // Lays the chunk out in the slab as it will lie in the arena, with zeros in the gaps. Returns
  // where in the slab it begins. The slab is aligned to chunk_granularity.
  // Throws IoError, or FileChanged where the file has become too short.
  [[nodiscard]] virtual std::byte* read(const Chunk& chunk, std::span<std::byte> slab) const = 0;

  // Throws FileChanged if what was read so far may not have been one state of the files.
  virtual void check_unchanged() const = 0;
};

}  // namespace pipelined::weights
