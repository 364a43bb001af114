#include "control.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <limits>
#include <string>

#include "simulation.hpp"

namespace {

using fake_cuda::Lock;
using fake_cuda::Simulation;
using fake_cuda::simulation;
namespace cuda = pipelined::weights::cuda;

std::string name_of(const char* function) { return function != nullptr ? function : ""; }

int access_device(std::uint64_t pointer, std::size_t size,
                  const std::function<void(std::byte* device, std::size_t size)>& access) {
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  const auto pieces = state.memory.find(pointer, size, std::nullopt, cuda::AccessFlags::none);
  if (!pieces) {
    return 1;
  }
  for (const fake_cuda::Piece& piece : *pieces) {
    access(piece.data, piece.size);
  }
  return 0;
}

std::size_t page_bytes() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

std::size_t whole_pages(std::size_t size) {
  return (size + page_bytes() - 1) / page_bytes() * page_bytes();
}

}  // namespace

extern "C" {

void fake_defaults(fake_configuration* configuration) {
  *configuration = {.seed = 1,
                    .late_microseconds = 200,
                    .lazy = 0,
                    .to_device_rate = 0,
                    .to_host_rate = 0,
                    .pageable_rate = 0,
                    .copy_nanoseconds = 0,
                    .pinning_rate = 0,
                    .device_bytes = std::uint64_t{8} << 30U,
                    .pinned_bytes = std::numeric_limits<std::uint64_t>::max(),
                    .granularity = std::uint64_t{2} << 20U,
                    .devices = 1,
                    .poison = 0};
}

void fake_configure(const fake_configuration* configuration) {
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  state.configure(*configuration);
}

void fake_fail(const char* function, uint64_t n, uint32_t result, uint64_t times) {
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  state.failures.fail(name_of(function), n, static_cast<cuda::Result>(result), times);
}

void fake_fail_copy(uint64_t n, uint32_t result) {
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  state.copies_until_failure = n;
  state.copy_failure = static_cast<cuda::Result>(result);
}

uint64_t fake_calls(const char* function) {
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  return state.failures.calls(name_of(function));
}

const char* fake_function(uint64_t index) {
#define FAKE_NAME(member, symbol, signature) #symbol,
  static constexpr std::array names{PIPELINED_CUDA_FUNCTIONS(FAKE_NAME)};
#undef FAKE_NAME
  return index < names.size() ? names.at(index) : nullptr;
}

void fake_hold(int held) {
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  state.engine.hold(held != 0);
}

void fake_drain(void) {
  Simulation& state = simulation();
  Lock lock(state.mutex);
  state.engine.drain(lock);
}

int fake_read_device(uint64_t pointer, void* buffer, size_t size) {
  auto* to = static_cast<std::byte*>(buffer);
  return access_device(pointer, size, [&to](const std::byte* device, std::size_t length) {
    std::memcpy(to, device, length);
    to += length;
  });
}

int fake_write_device(uint64_t pointer, const void* buffer, size_t size) {
  const auto* from = static_cast<const std::byte*>(buffer);
  return access_device(pointer, size, [&from](std::byte* device, std::size_t length) {
    std::memcpy(device, from, length);
    from += length;
  });
}

void* fake_open_view(uint64_t pointer, size_t size) {
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  // Of whole pages, as mappings are. Device memory begins and ends with pages.
  const std::uint64_t before = pointer % page_bytes();
  const std::size_t whole = whole_pages(before + size);
  const auto pieces =
      state.memory.find(pointer - before, whole, std::nullopt, cuda::AccessFlags::none);
  if (!pieces) {
    return nullptr;
  }
  constexpr int anonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* const place = ::mmap(nullptr, whole, PROT_NONE, anonymous, -1, 0);
  if (place == MAP_FAILED) {
    return nullptr;
  }
  auto* to = static_cast<std::byte*>(place);
  for (const fake_cuda::Piece& piece : *pieces) {
    const auto offset = piece.data - piece.allocation->data();
    if (::mmap(to, piece.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
               piece.allocation->descriptor(), offset) == MAP_FAILED) {
      static_cast<void>(::munmap(place, whole));
      return nullptr;
    }
    to += piece.size;
  }
  return static_cast<std::byte*>(place) + before;
}

void fake_close_view(void* view, size_t size) {
  const std::uintptr_t before = reinterpret_cast<std::uintptr_t>(view) % page_bytes();
  static_cast<void>(::munmap(static_cast<std::byte*>(view) - before, whole_pages(before + size)));
}

uint64_t fake_statistics(fake_statistic which) {
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  switch (which) {
    case FAKE_PINNED_BYTES:
      return state.pinned.bytes();
    case FAKE_PINNED_PEAK:
      return state.pinned.peak();
    case FAKE_DEVICE_BYTES:
      return state.memory.used();
    case FAKE_DEVICE_PEAK:
      return state.memory.peak();
    case FAKE_COPIES_TO_DEVICE:
      return state.to_device.copies;
    case FAKE_BYTES_TO_DEVICE:
      return state.to_device.bytes;
    case FAKE_COPIES_TO_HOST:
      return state.to_host.copies;
    case FAKE_BYTES_TO_HOST:
      return state.to_host.bytes;
    case FAKE_PAGEABLE_COPIES:
      return state.pageable_copies;
  }
  return 0;
}

const char* fake_misuse(void) {
  thread_local std::string text;
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  text = state.findings.text();
  return text.c_str();
}

const char* fake_leaks(void) {
  thread_local std::string text;
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  text = state.leaks();
  return text.c_str();
}

const char* fake_report(void) {
  thread_local std::string text;
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  text = state.findings.text() + state.leaks();
  return text.c_str();
}

void fake_forget(void) {
  Simulation& state = simulation();
  const Lock lock(state.mutex);
  state.forget();
}

void fake_reset(void) { simulation().reset(); }

}  // extern "C"
