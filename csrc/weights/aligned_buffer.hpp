#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace pipelined::weights {

// Memory that begins at a multiple of so many bytes, and is kept for the next who asks.
class AlignedBuffer {
 public:
  // What it held before is lost. Throws std::bad_alloc.
  [[nodiscard]] std::span<std::byte> get(std::size_t bytes, std::size_t alignment) {
    if (memory_.size() < bytes + alignment) {
      memory_.resize(bytes + alignment);
    }
    void* begin = memory_.data();
    std::size_t space = memory_.size();
    return {static_cast<std::byte*>(std::align(alignment, bytes, begin, space)), bytes};
  }

 private:
  std::vector<std::byte> memory_;
};

}  // namespace pipelined::weights
