#include "pinned_memory.hpp"

#include <sys/mman.h>

#include <algorithm>

namespace fake_cuda {
namespace {

using cuda::Result;

std::uintptr_t number(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

}  // namespace

bool PinnedMemory::overlaps(std::uintptr_t begin, std::size_t size) const {
  return std::ranges::any_of(ranges_, [&](const auto& entry) {
    return entry.first < begin + size && begin < entry.first + entry.second.size;
  });
}

void PinnedMemory::add(std::uintptr_t begin, Range range) {
  ranges_.emplace(begin, range);
  bytes_ += range.size;
  peak_ = std::max(peak_, bytes_);
}

void PinnedMemory::remove(Ranges::iterator entry) {
  const auto [begin, range] = *entry;
  bytes_ -= range.size;
  ranges_.erase(entry);
  if (!range.registered) {
    static_cast<void>(::munmap(reinterpret_cast<void*>(begin), range.size));
  }
}

Result PinnedMemory::allocate(void** pointer, std::size_t size) {
  if (size == 0) {
    findings_.add("cuMemHostAlloc", "size 0");
    return Result::invalid_value;
  }
  if (exceeds(size)) {
    return Result::out_of_memory;
  }
  // Pinned memory has its pages from the start.
  constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
  void* const data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (data == MAP_FAILED) {
    return Result::out_of_memory;
  }
  add(number(data), {size, false});
  *pointer = data;
  return Result::success;
}

Result PinnedMemory::free(void* pointer) {
  const auto found = ranges_.find(number(pointer));
  if (found == ranges_.end() || found->second.registered) {
    findings_.add("cuMemFreeHost", "this was not allocated, or is free already");
    return Result::invalid_value;
  }
  remove(found);
  return Result::success;
}

Result PinnedMemory::add_registered(void* pointer, std::size_t size) {
  if (size == 0 || pointer == nullptr) {
    findings_.add("cuMemHostRegister_v2", "there is nothing to register");
    return Result::invalid_value;
  }
  if (overlaps(number(pointer), size)) {
    findings_.add("cuMemHostRegister_v2", "some of this is pinned already");
    return Result::host_memory_already_registered;
  }
  if (exceeds(size)) {
    return Result::out_of_memory;
  }
  add(number(pointer), {size, true});
  return Result::success;
}

Result PinnedMemory::remove_registered(void* pointer) {
  const auto found = ranges_.find(number(pointer));
  if (found == ranges_.end() || !found->second.registered) {
    findings_.add("cuMemHostUnregister", "this is not registered");
    return Result::host_memory_not_registered;
  }
  remove(found);
  return Result::success;
}

PinnedMemory::Coverage PinnedMemory::covers(const void* pointer, std::size_t size) const {
  const std::uintptr_t begin = number(pointer);
  const auto next = ranges_.upper_bound(begin);
  if (next != ranges_.begin()) {
    const auto& [start, range] = *std::prev(next);
    if (begin - start < range.size && size <= range.size - (begin - start)) {
      return Coverage::all;
    }
  }
  return overlaps(begin, size) ? Coverage::part : Coverage::none;
}

std::size_t PinnedMemory::size_at(const void* pointer) const {
  const auto found = ranges_.find(number(pointer));
  return found != ranges_.end() ? found->second.size : 0;
}

std::string PinnedMemory::leaks() const {
  if (ranges_.empty()) {
    return {};
  }
  return "still held: " + std::to_string(bytes_) + " bytes of pinned memory in " +
         std::to_string(ranges_.size()) + " ranges\n";
}

void PinnedMemory::clear() {
  while (!ranges_.empty()) {
    remove(ranges_.begin());
  }
  peak_ = 0;
}

}  // namespace fake_cuda
