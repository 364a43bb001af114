#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "weights/header.hpp"

namespace pipelined::weights {

// Where the tensors of one or several files lie in one arena, and in which steps they get there.
//
//   file     |header|a a a a a a|b|c c c|          tensors lie back to back, aligned or not
//   arena    |a a a a a a . .|b . . . .|c c c|     each starts at a multiple of tensor_alignment
//   chunks   |<--- 0 --->|<--- 1 --->|<- 2 ->|     equal cuts of a file's part of the arena
//
// The tensors of a file keep their order, so a chunk is filled from one range of one file, which
// is spread over the chunk with gaps: one vectored read and one copy, however many tensors it holds
// and however small they are. All of this is arithmetic on checked headers: no I/O, no state.

// What CUDA's own allocator gives, and what the widest vector loads need.
inline constexpr std::uint64_t tensor_alignment = 256;

struct PlannedFile {
  // Must outlive the call.
  const Header* header = nullptr;
  // Where the tensors' bytes begin in the file.
  std::uint64_t data_begin = 0;
};

struct Layout {
  // Of each file, the offset in the arena of each of its tensors, in the order of the header. A
  // tensor without bytes lies where the next one does.
  std::vector<std::vector<std::uint64_t>> places;
  std::uint64_t arena_bytes = 0;
};

// Bytes of a chunk that come from the file without a gap. The pieces of a chunk follow one another
// in the file.
struct Piece {
  std::uint64_t offset = 0;  // in the chunk
  std::uint64_t bytes = 0;
};

struct Chunk {
  std::size_t file = 0;
  // The range of the file: what the pieces are, laid end to end.
  std::uint64_t file_offset = 0;
  std::uint64_t file_bytes = 0;
  // The range of the arena: the pieces, and the gaps before and between them.
  std::uint64_t arena_offset = 0;
  std::uint64_t bytes = 0;
  std::vector<Piece> pieces;
  // The tensors that have bytes in it, as indexes into the header; those without bytes between
  // them are counted in.
  std::size_t first_tensor = 0;
  std::size_t end_tensor = 0;
};

// Gives each tensor its place. Throws OverBudget where the sum does not fit in 64 bits.
[[nodiscard]] Layout lay_out(std::span<const PlannedFile> files);

// Cuts the files' parts of the arena into chunks of at most max_bytes, a multiple of
// chunk_granularity; those of one file are of one size, but for the last. Takes memory in
// proportion to the arena: whoever calls it has made sure that there may be one of that size.
inline constexpr std::uint64_t chunk_granularity = 4096;
[[nodiscard]] std::vector<Chunk> cut(std::span<const PlannedFile> files, const Layout& layout,
                                     std::uint64_t max_bytes);

}  // namespace pipelined::weights
