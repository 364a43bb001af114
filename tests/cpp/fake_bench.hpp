#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "fake_driver.hpp"
#include "testing.hpp"
#include "weights/cuda/context.hpp"

namespace pipelined::testing {

inline constexpr std::size_t granule = std::size_t{2} << 20U;

inline weights::cuda::AllocationProperties properties() {
  using namespace weights::cuda;
  return {.type = AllocationType::pinned,
          .requested_handle_types = HandleType::posix_file_descriptor,
          .location = {.type = LocationType::device, .id = 0},
          .win32_handle_metadata = nullptr,
          .flags = {}};
}

// Two contents that can be told apart.
inline constexpr std::byte first{0x11};
inline constexpr std::byte second{0x22};

// A device with a granule of memory, a stream, an event and two slabs, made correctly.
struct Bench {
  explicit Bench(const Context& test) : fake(test) {
    primary.emplace(fake.driver, 0);
    current.emplace(*primary);
    const weights::cuda::Driver& driver = *fake.driver;
    const weights::cuda::AllocationProperties wanted = properties();
    driver.mem_address_reserve(&device, granule, 0, 0, 0);
    driver.mem_create(&handle, granule, &wanted, 0);
    driver.mem_map(device, granule, 0, handle, 0);
    const weights::cuda::AccessDescription access{.location = wanted.location,
                                                  .flags = weights::cuda::AccessFlags::read_write};
    driver.mem_set_access(device, granule, &access, 1);
    driver.stream_create(&stream, weights::cuda::stream_non_blocking);
    driver.event_create(&event, weights::cuda::event_disable_timing);
    for (std::byte*& slab : slabs) {
      void* memory = nullptr;
      driver.mem_host_alloc(&memory, granule, 0);
      slab = static_cast<std::byte*>(memory);
    }
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;
  Bench(Bench&&) = delete;
  Bench& operator=(Bench&&) = delete;
  ~Bench() = default;

  void upload(std::size_t slab = 0, std::size_t size = granule) const {
    fake.driver->memcpy_htod_async(device, slabs.at(slab), size, stream);
  }
  void fill(std::byte value, std::size_t slab = 0) const {
    std::fill_n(slabs.at(slab), granule, value);
  }
  // What all bytes of the device's memory are; fails if they differ.
  [[nodiscard]] std::byte content(std::size_t size = granule) const {
    std::vector<std::byte> bytes(size);
    CHECK_EQUAL(fake.read_device(device, bytes.data(), size), 0);
    CHECK(bytes == std::vector<std::byte>(size, bytes.front()));
    return bytes.front();
  }
  void tear_down() {
    const weights::cuda::Driver& driver = *fake.driver;
    for (std::byte* slab : slabs) {
      driver.mem_free_host(slab);
    }
    driver.event_destroy(event);
    driver.stream_destroy(stream);
    driver.mem_unmap(device, granule);
    driver.mem_release(handle);
    driver.mem_address_free(device, granule);
    current.reset();
    primary.reset();
  }
  [[nodiscard]] bool reported(const char* what) const {
    return std::string(fake.misuse()).find(what) != std::string::npos;
  }

  FakeDriver fake;
  std::optional<weights::cuda::PrimaryContext> primary;
  std::optional<weights::cuda::CurrentContext> current;
  weights::cuda::DevicePointer device = 0;
  weights::cuda::AllocationHandle handle = 0;
  weights::cuda::Stream stream = nullptr;
  weights::cuda::Event event = nullptr;
  std::array<std::byte*, 2> slabs{};
};

}  // namespace pipelined::testing
