#pragma once

#include <functional>
#include <span>
#include <stop_token>

#include "weights/cuda/context.hpp"
#include "weights/cuda/pinned_ring.hpp"
#include "weights/plan.hpp"
#include "weights/source.hpp"

namespace pipelined::weights::cuda {

// From a source to the device:
//
//   threads ── read a chunk ──▶ slab ── cuMemcpyHtoDAsync, one per chunk ──▶ arena
//      ▲                                  own stream; an event after each copy
//      └───────── ring ◀── the slab returns once its event has passed
//
// so that reads and copies overlap, and the slower of the two sets the pace.
struct Transfer {
  const PrimaryContext& context;
  PinnedRing& ring;
  const ChunkSource& source;
  std::span<const Chunk> chunks;
  // Where the arena begins; mapped.
  DevicePointer base = 0;
  // Called once, by any thread, when every chunk has been read and its copy asked for. What is
  // recorded in the stream here comes after all copies. What it throws fails the transfer. May be
  // empty.
  std::function<void(Stream)> enqueued;
  // Called by run()'s thread for each chunk that is on the device. May be empty.
  std::function<void(const Chunk&)> arrived;

  // Needs no current context, and returns when all chunks are on the device. Throws the first
  // failure, of the source or the driver, and Cancelled when it is told to stop. However it ends:
  // no read or copy of it is under way then, and it holds no slab, stream or event.
  void run(const std::stop_source& stop) const;
};

}  // namespace pipelined::weights::cuda
