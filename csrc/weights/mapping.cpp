#include "weights/mapping.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include "weights/errors.hpp"

#ifndef MADV_POPULATE_READ
// Headers older than the kernel they run on; the number is part of the kernel's ABI.
#define MADV_POPULATE_READ 22
#endif

namespace pipelined::weights {

Mapping::Mapping(const File& file) : path_(file.path()), size_(file.size()) {
  // MAP_NORESERVE: hardly a page will be written to, so no memory need be set aside for copies.
  constexpr int flags = MAP_PRIVATE | MAP_NORESERVE;
  void* const address = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, flags, file.descriptor(), 0);
  if (address == MAP_FAILED) {
    throw IoError("mmap", file.path(), errno);
  }
  data_ = static_cast<std::byte*>(address);
  place_.publish(data_, size_, path_.c_str());
}

Mapping::~Mapping() {
  place_.withdraw();
  // Fails only for arguments that no mapping has.
  static_cast<void>(::munmap(data_, size_));
}

int Mapping::populate(std::size_t offset, std::size_t length) const noexcept {
  const std::size_t bytes = std::min(length, size_ - offset);
  while (::madvise(data_ + offset, bytes, MADV_POPULATE_READ) != 0) {
    if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

int Mapping::give_back(std::size_t offset, std::size_t length) const noexcept {
  return ::madvise(data_ + offset, length, MADV_DONTNEED) == 0 ? 0 : errno;
}

bool Mapping::sample_resident() const noexcept {
  constexpr std::size_t samples = 256;
  constexpr std::size_t pages_per_sample = 8;
  const std::size_t page = page_bytes();
  const std::size_t pages = (size_ + page - 1) / page;
  const std::size_t stride = std::max<std::size_t>(pages / samples, pages_per_sample);
  for (std::size_t first = 0; first < pages; first += stride) {
    const std::size_t count = std::min(pages_per_sample, pages - first);
    std::array<unsigned char, pages_per_sample> states{};
    if (::mincore(data_ + first * page, count * page, states.data()) != 0) {
      return false;
    }
    const std::span pages_seen = std::span(states).first(count);
    if (!std::ranges::all_of(pages_seen, [](unsigned char state) { return (state & 1U) != 0; })) {
      return false;
    }
  }
  return true;
}

std::size_t Mapping::page_bytes() noexcept {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace pipelined::weights
