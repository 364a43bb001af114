#include "weights/plan.hpp"

#include <algorithm>
#include <limits>

#include "weights/errors.hpp"

namespace pipelined::weights {
namespace {

constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}

// Far from overflow, so that roundings need no checks. No device comes near.
constexpr std::uint64_t max_arena_bytes = std::numeric_limits<std::uint64_t>::max() / 4;

// The chunks of one file, filled tensor by tensor.
class Cutter {
 public:
  Cutter(std::size_t file, std::uint64_t begin, std::uint64_t end, std::uint64_t max_bytes,
         std::vector<Chunk>& chunks)
      : file_(file), begin_(begin), end_(end), chunks_(chunks) {
    const std::uint64_t bytes = end - begin;
    const std::uint64_t count = (bytes + max_bytes - 1) / max_bytes;
    step_ = std::min(round_up((bytes + count - 1) / count, chunk_granularity), max_bytes);
  }

  void add(std::size_t tensor, std::uint64_t place, std::uint64_t file_offset,
           std::uint64_t bytes) {
    while (bytes != 0) {
      const std::uint64_t start = begin_ + (place - begin_) / step_ * step_;
      const std::uint64_t end = std::min(start + step_, end_);
      const std::uint64_t taken = std::min(bytes, end - place);
      if (chunks_.empty() || chunks_.back().file != file_ || chunks_.back().arena_offset != start) {
        chunks_.push_back({.file = file_,
                           .file_offset = file_offset,
                           .file_bytes = 0,
                           .arena_offset = start,
                           .bytes = end - start,
                           .pieces = {},
                           .first_tensor = tensor,
                           .end_tensor = tensor});
      }
      extend(chunks_.back(), {.offset = place - start, .bytes = taken});
      chunks_.back().end_tensor = tensor + 1;
      place += taken;
      file_offset += taken;
      bytes -= taken;
    }
  }

 private:
  static void extend(Chunk& chunk, Piece piece) {
    chunk.file_bytes += piece.bytes;
    if (!chunk.pieces.empty()) {
      Piece& last = chunk.pieces.back();
      if (last.offset + last.bytes == piece.offset) {
        last.bytes += piece.bytes;
        return;
      }
    }
    chunk.pieces.push_back(piece);
  }

  std::size_t file_;
  std::uint64_t begin_;
  std::uint64_t end_;
  std::uint64_t step_ = 0;
  std::vector<Chunk>& chunks_;
};

}  // namespace

Layout lay_out(std::span<const PlannedFile> files) {
  Layout layout;
  layout.places.reserve(files.size());
  for (const PlannedFile& file : files) {
    std::vector<std::uint64_t>& places = layout.places.emplace_back();
    places.reserve(file.header->tensors().size());
    for (const TensorInfo& tensor : file.header->tensors()) {
      const std::uint64_t place = round_up(layout.arena_bytes, tensor_alignment);
      places.push_back(place);
      if (place > max_arena_bytes || tensor.bytes() > max_arena_bytes - place) {
        throw OverBudget("device memory", tensor.bytes(),
                         max_arena_bytes - std::min(place, max_arena_bytes));
      }
      if (tensor.bytes() != 0) {
        layout.arena_bytes = place + tensor.bytes();
      }
    }
  }
  return layout;
}

std::vector<Chunk> cut(std::span<const PlannedFile> files, const Layout& layout,
                       std::uint64_t max_bytes) {
  std::vector<Chunk> chunks;
  for (std::size_t file = 0; file < files.size(); ++file) {
    const std::vector<TensorInfo>& tensors = files[file].header->tensors();
    const std::vector<std::uint64_t>& places = layout.places[file];
    // Those without bytes come before or between the others; the last that has some ends the part.
    const auto last = std::ranges::find_if(
        tensors.rbegin(), tensors.rend(), [](const TensorInfo& info) { return info.bytes() != 0; });
    if (last == tensors.rend()) {
      continue;
    }
    const auto last_index = static_cast<std::size_t>(tensors.rend() - last) - 1;
    Cutter cutter(file, places.front(), places[last_index] + last->bytes(), max_bytes, chunks);
    for (std::size_t index = 0; index < tensors.size(); ++index) {
      const TensorInfo& tensor = tensors[index];
      cutter.add(index, places[index], files[file].data_begin + tensor.begin, tensor.bytes());
    }
  }
  return chunks;
}

}  // namespace pipelined::weights
