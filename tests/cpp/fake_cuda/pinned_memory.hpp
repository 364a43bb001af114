#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "findings.hpp"
#include "weights/cuda/driver_types.hpp"

namespace fake_cuda {

namespace cuda = pipelined::weights::cuda;

// The host memory that is pinned: allocated so, or registered. Guarded by the simulation's mutex.
class PinnedMemory {
 public:
  enum class Coverage : std::uint8_t { none, part, all };

  explicit PinnedMemory(Findings& findings) : findings_(findings) {}

  void limit(std::size_t bytes) { limit_ = bytes; }

  cuda::Result allocate(void** pointer, std::size_t size);
  cuda::Result free(void* pointer);
  cuda::Result add_registered(void* pointer, std::size_t size);
  cuda::Result remove_registered(void* pointer);

  // How much of a range is pinned; "all" only by one allocation or registration.
  [[nodiscard]] Coverage covers(const void* pointer, std::size_t size) const;
  // The size of what begins at an address, or 0.
  [[nodiscard]] std::size_t size_at(const void* pointer) const;

  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] std::size_t peak() const noexcept { return peak_; }
  void forget_peak() { peak_ = bytes_; }
  [[nodiscard]] std::string leaks() const;
  void clear();

 private:
  struct Range {
    std::size_t size;
    bool registered;
  };
  using Ranges = std::map<std::uintptr_t, Range>;

  [[nodiscard]] bool overlaps(std::uintptr_t begin, std::size_t size) const;
  [[nodiscard]] bool exceeds(std::size_t size) const {
    return size > limit_ || bytes_ > limit_ - size;
  }
  void add(std::uintptr_t begin, Range range);
  void remove(Ranges::iterator entry);

  Findings& findings_;
  std::size_t limit_ = SIZE_MAX;
  Ranges ranges_;
  std::size_t bytes_ = 0;
  std::size_t peak_ = 0;
};

}  // namespace fake_cuda
