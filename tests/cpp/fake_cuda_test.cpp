// The fake driver itself: that each of its hostilities shows the mistake that it is there for, and
// that correct use is left in peace.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fake_driver.hpp"
#include "testing.hpp"
#include "weights/cuda/context.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::FakeDriver;

constexpr std::size_t granule = std::size_t{2} << 20U;

AllocationProperties properties() {
  return {.type = AllocationType::pinned,
          .requested_handle_types = HandleType::posix_file_descriptor,
          .location = {.type = LocationType::device, .id = 0},
          .win32_handle_metadata = nullptr,
          .flags = {}};
}

// A device with a granule of memory, a stream, an event and two slabs, made correctly.
struct Bench {
  explicit Bench(const testing::Context& test) : fake(test) {
    primary.emplace(fake.driver, 0);
    current.emplace(*primary);
    const Driver& driver = *fake.driver;
    const AllocationProperties wanted = properties();
    driver.mem_address_reserve(&device, granule, 0, 0, 0);
    driver.mem_create(&handle, granule, &wanted, 0);
    driver.mem_map(device, granule, 0, handle, 0);
    const AccessDescription access{.location = wanted.location, .flags = AccessFlags::read_write};
    driver.mem_set_access(device, granule, &access, 1);
    driver.stream_create(&stream, stream_non_blocking);
    driver.event_create(&event, event_disable_timing);
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
    const Driver& driver = *fake.driver;
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
  std::optional<PrimaryContext> primary;
  std::optional<CurrentContext> current;
  DevicePointer device = 0;
  AllocationHandle handle = 0;
  Stream stream = nullptr;
  Event event = nullptr;
  std::array<std::byte*, 2> slabs{};
};

constexpr std::byte first{0x11};
constexpr std::byte second{0x22};

UNIT_TEST(correct_use_is_reported_clean) {
  Bench bench(context);
  bench.fill(first);
  bench.upload();
  bench.fake.driver->event_record(bench.event, bench.stream);
  bench.fake.driver->event_synchronize(bench.event);
  CHECK(bench.content() == first);
  bench.tear_down();
  CHECK_EQUAL(std::string(bench.fake.report()), "");
}

UNIT_TEST(a_slab_that_is_refilled_early_arrives_wrong) {
  const Bench bench(context);
  bench.fake.hold(1);
  bench.fill(first);
  bench.upload();
  // Too early: nobody has waited for the copy.
  bench.fill(second);
  bench.fake.hold(0);
  bench.fake.driver->stream_synchronize(bench.stream);
  CHECK(bench.content() == second);
}

UNIT_TEST(lazy_streams_begin_only_when_somebody_waits) {
  const Bench bench(context);
  bench.fake.configure([](auto& it) { it.lazy = 1; });
  bench.fill(first);
  bench.upload();
  bench.fake.driver->event_record(bench.event, bench.stream);
  CHECK_EQUAL(bench.fake.statistics(FAKE_COPIES_TO_DEVICE), 0);
  // To ask is to wait, or a program that polls would never come to an end.
  CHECK(bench.fake.driver->event_query.attempt(bench.event) == Result::not_ready);
  while (bench.fake.driver->event_query.attempt(bench.event) == Result::not_ready) {
    std::this_thread::yield();
  }
  CHECK(bench.content() == first);
}

UNIT_TEST(lazy_streams_begin_when_another_stream_waits_for_them) {
  const Bench bench(context);
  bench.fake.configure([](auto& it) { it.lazy = 1; });
  const Driver& driver = *bench.fake.driver;
  Stream consumer = nullptr;
  driver.stream_create(&consumer, stream_non_blocking);
  bench.fill(first);
  bench.upload();
  driver.event_record(bench.event, bench.stream);
  driver.stream_wait_event(consumer, bench.event, 0);
  driver.stream_synchronize(consumer);
  CHECK(bench.content() == first);
  driver.stream_destroy(consumer);
}

UNIT_TEST(a_pageable_source_is_free_when_the_call_returns) {
  const Bench bench(context);
  bench.fake.configure([](auto& it) { it.lazy = 1; });
  std::vector<std::byte> pageable(granule, first);
  bench.fake.driver->memcpy_htod_async(bench.device, pageable.data(), granule, bench.stream);
  std::ranges::fill(pageable, second);
  CHECK(bench.content() == first);
  CHECK_EQUAL(bench.fake.statistics(FAKE_PAGEABLE_COPIES), 1);
}

UNIT_TEST(registered_memory_is_copied_late_too) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  std::vector<std::byte> memory(granule, first);
  driver.mem_host_register(memory.data(), granule, 0);
  bench.fake.hold(1);
  driver.memcpy_htod_async(bench.device, memory.data(), granule, bench.stream);
  std::ranges::fill(memory, second);
  bench.fake.hold(0);
  driver.stream_synchronize(bench.stream);
  CHECK(bench.content() == second);
  driver.mem_host_unregister(memory.data());
  CHECK_EQUAL(std::string(bench.fake.misuse()), "");
}

UNIT_TEST(what_is_read_back_arrives_late) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  driver.memset_d8_async(bench.device, 0x22, granule, bench.stream);
  bench.fill(first, 1);
  bench.fake.hold(1);
  driver.memcpy_dtoh_async(bench.slabs[1], bench.device, granule, bench.stream);
  CHECK(bench.slabs[1][granule - 1] == first);
  bench.fake.hold(0);
  driver.stream_synchronize(bench.stream);
  CHECK(bench.slabs[1][granule - 1] == second);
  std::vector<std::byte> pageable(granule);
  driver.memcpy_dtoh(pageable.data(), bench.device, granule);
  CHECK(pageable == std::vector<std::byte>(granule, second));
}

UNIT_TEST(copies_on_the_device_keep_the_streams_order) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  driver.memset_d8_async(bench.device, 0x22, granule / 2, bench.stream);
  driver.memcpy_dtod_async(bench.device + granule / 2, bench.device, granule / 2, bench.stream);
  driver.ctx_synchronize();
  CHECK(bench.content() == second);
}

UNIT_TEST(the_default_stream_waits_for_blocking_streams_only) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  bench.fake.configure([](auto& it) { it.lazy = 1; });
  Stream blocking = nullptr;
  driver.stream_create(&blocking, 0);
  bench.fill(first);
  bench.upload();
  driver.stream_synchronize(nullptr);
  CHECK_EQUAL(bench.fake.statistics(FAKE_COPIES_TO_DEVICE), 0);
  driver.memcpy_htod_async(bench.device, bench.slabs[1], granule, blocking);
  driver.memset_d8_async(bench.device, 0x22, 1, nullptr);
  driver.stream_synchronize(nullptr);
  CHECK_EQUAL(bench.fake.statistics(FAKE_COPIES_TO_DEVICE), 1);
  driver.stream_destroy(blocking);
}

UNIT_TEST(device_memory_runs_out) {
  const FakeDriver fake(context);
  fake.configure([](auto& it) { it.device_bytes = 3 * granule; });
  const Driver& driver = *fake.driver;
  driver.init(0);
  const AllocationProperties wanted = properties();
  AllocationHandle one = 0;
  AllocationHandle two = 0;
  driver.mem_create(&one, 2 * granule, &wanted, 0);
  CHECK(driver.mem_create.attempt(&two, 2 * granule, &wanted, 0) == Result::out_of_memory);
  driver.mem_release(one);
  driver.mem_create(&two, 2 * granule, &wanted, 0);
  driver.mem_release(two);
  CHECK_EQUAL(fake.statistics(FAKE_DEVICE_PEAK), 2 * granule);
  CHECK_EQUAL(fake.statistics(FAKE_DEVICE_BYTES), 0);
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(mapped_memory_outlives_its_handle) {
  const Bench bench(context);
  bench.fake.driver->mem_release(bench.handle);
  bench.fill(second);
  bench.upload();
  bench.fake.driver->stream_synchronize(bench.stream);
  CHECK(bench.content() == second);
  CHECK_EQUAL(bench.fake.statistics(FAKE_DEVICE_BYTES), granule);
  bench.fake.driver->mem_unmap(bench.device, granule);
  CHECK_EQUAL(bench.fake.statistics(FAKE_DEVICE_BYTES), 0);
}

UNIT_TEST(pinned_memory_is_limited_and_its_peak_known) {
  const Bench bench(context);
  bench.fake.configure([](auto& it) { it.pinned_bytes = 3 * granule; });
  const Driver& driver = *bench.fake.driver;
  void* memory = nullptr;
  CHECK(driver.mem_host_alloc.attempt(&memory, 2 * granule, 0) == Result::out_of_memory);
  driver.mem_host_alloc(&memory, granule, 0);
  driver.mem_free_host(memory);
  CHECK_EQUAL(bench.fake.statistics(FAKE_PINNED_PEAK), 3 * granule);
  CHECK_EQUAL(bench.fake.statistics(FAKE_PINNED_BYTES), 2 * granule);
}

UNIT_TEST(what_is_still_held_is_reported) {
  const Bench bench(context);
  CHECK_EQUAL(std::string(bench.fake.misuse()), "");
  CHECK_EQUAL(std::string(bench.fake.leaks()),
              "still held: 1 handles of device memory\n"
              "still held: 1 mappings of device memory\n"
              "still held: 1 reserved ranges of device addresses\n"
              "still held: 4194304 bytes of pinned memory in 2 ranges\n"
              "still held: 1 streams\n"
              "still held: 1 events\n"
              "still held: 1 references on the context of device 0\n"
              "still held: 1 contexts pushed and not popped\n");
}

UNIT_TEST(what_is_given_back_twice_is_reported) {
  Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  void* const slab = bench.slabs[0];
  bench.tear_down();
  const PrimaryContext primary(bench.fake.driver, 0);
  const CurrentContext current(primary);
  for (const auto& [name, result] : {
           std::pair{"cuMemFreeHost", driver.mem_free_host.attempt(slab)},
           {"cuMemHostUnregister", driver.mem_host_unregister.attempt(slab)},
           {"cuMemUnmap", driver.mem_unmap.attempt(bench.device, granule)},
           {"cuMemRelease", driver.mem_release.attempt(bench.handle)},
           {"cuMemAddressFree", driver.mem_address_free.attempt(bench.device, granule)},
           {"cuEventDestroy_v2", driver.event_destroy.attempt(bench.event)},
           {"cuStreamDestroy_v2", driver.stream_destroy.attempt(bench.stream)},
       }) {
    CHECK(result != Result::success);
    CHECK(bench.reported(name));
  }
}

UNIT_TEST(use_after_destruction_is_reported) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  driver.stream_destroy(bench.stream);
  CHECK_THROWS(CudaError, bench.upload());
  CHECK(bench.reported("cuMemcpyHtoDAsync_v2: this is no stream, or it is destroyed"));
  driver.event_destroy(bench.event);
  CHECK(driver.event_record.attempt(bench.event, nullptr) == Result::invalid_handle);
  CHECK(driver.event_query.attempt(bench.event) == Result::invalid_handle);
  CHECK(bench.reported("cuEventRecord: this is no event, or it is destroyed"));
  CHECK(bench.reported("cuEventQuery: this is no event, or it is destroyed"));
  // Handles are never given out again.
  Event other = nullptr;
  driver.event_create(&other, 0);
  CHECK(other != bench.event);
}

UNIT_TEST(a_destroyed_stream_still_does_its_work) {
  const Bench bench(context);
  bench.fill(first);
  bench.upload();
  bench.fake.driver->stream_destroy(bench.stream);
  bench.fake.drain();
  CHECK(bench.content() == first);
  CHECK_EQUAL(std::string(bench.fake.misuse()), "");
}

UNIT_TEST(a_wrong_context_is_reported) {
  const Bench bench(context);
  bench.fake.configure([](auto& it) { it.devices = 2; });
  const PrimaryContext other(bench.fake.driver, 1);
  const CurrentContext current(other);
  CHECK_THROWS(CudaError, bench.upload());
  CHECK(bench.reported("the stream belongs to another context"));
  Stream stream = nullptr;
  bench.fake.driver->stream_create(&stream, stream_non_blocking);
  CHECK(bench.fake.driver->event_record.attempt(bench.event, stream) == Result::invalid_handle);
  CHECK(bench.reported("event and stream belong to different contexts"));
  CHECK(bench.fake.driver->memset_d8_async.attempt(bench.device, 0, 1, stream) ==
        Result::invalid_value);
  CHECK(bench.reported("the device may not access the range"));
}

UNIT_TEST(a_thread_without_a_context_is_reported) {
  const Bench bench(context);
  Result result = Result::success;
  std::jthread([&] {
    result = bench.fake.driver->memset_d8_async.attempt(bench.device, 0, 1, bench.stream);
  }).join();
  CHECK(result == Result::invalid_context);
  CHECK(bench.reported("cuMemsetD8Async: no context is current"));
}

UNIT_TEST(a_context_that_is_destroyed_first_is_reported) {
  Bench bench(context);
  bench.current.reset();
  bench.primary.reset();
  CHECK(bench.reported("the context was destroyed with streams or events in it"));
}

UNIT_TEST(copies_to_what_is_not_mapped_are_reported) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  CHECK(driver.memcpy_htod_async.attempt(bench.device + granule, bench.slabs[0], 1, bench.stream) ==
        Result::invalid_value);
  CHECK(bench.reported("not mapped"));
  bench.fake.forget();
  // One byte too many.
  CHECK(driver.memset_d8_async.attempt(bench.device + 1, 0, granule, bench.stream) ==
        Result::invalid_value);
  CHECK(bench.reported("not mapped"));
}

UNIT_TEST(a_missing_access_is_reported) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  driver.mem_unmap(bench.device, granule);
  driver.mem_map(bench.device, granule, 0, bench.handle, 0);
  CHECK_THROWS(CudaError, bench.upload());
  CHECK(bench.reported("cuMemSetAccess is missing"));
  const AccessDescription access{.location = properties().location, .flags = AccessFlags::read};
  driver.mem_set_access(bench.device, granule, &access, 1);
  CHECK_THROWS(CudaError, bench.upload());
  driver.memcpy_dtoh(bench.slabs[0], bench.device, granule);
}

UNIT_TEST(sizes_have_to_be_whole_granules) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  const AllocationProperties wanted = properties();
  AllocationHandle handle = 0;
  DevicePointer pointer = 0;
  CHECK(driver.mem_create.attempt(&handle, granule + 4096, &wanted, 0) == Result::invalid_value);
  CHECK(driver.mem_address_reserve.attempt(&pointer, 4096, 0, 0, 0) == Result::invalid_value);
  driver.mem_unmap(bench.device, granule);
  CHECK(driver.mem_map.attempt(bench.device, granule, granule, bench.handle, 0) ==
        Result::invalid_value);
  CHECK(driver.mem_map.attempt(bench.device + 4096, granule, 0, bench.handle, 0) ==
        Result::invalid_value);
  CHECK(driver.mem_map.attempt(bench.device + granule, granule, 0, bench.handle, 0) ==
        Result::invalid_value);
  driver.mem_map(bench.device, granule, 0, bench.handle, 0);
  CHECK(driver.mem_map.attempt(bench.device, granule, 0, bench.handle, 0) == Result::invalid_value);
  CHECK(driver.mem_unmap.attempt(bench.device, granule / 2) == Result::invalid_value);
  CHECK(driver.mem_address_free.attempt(bench.device, granule) == Result::invalid_value);
  for (const char* text : {"cuMemCreate: size", "cuMemAddressReserve: size", "cuMemMap: address",
                           "cuMemMap: these addresses", "cuMemMap: something is mapped",
                           "cuMemUnmap: this range", "cuMemAddressFree: something"}) {
    CHECK(bench.reported(text));
  }
}

UNIT_TEST(pinned_memory_that_a_copy_needs_is_not_to_be_freed) {
  const Bench bench(context);
  bench.fake.hold(1);
  bench.upload();
  bench.fake.driver->mem_free_host(bench.slabs[0]);
  CHECK(bench.reported("cuMemFreeHost: a copy still needs this memory"));
  bench.fake.hold(0);
  CHECK(bench.fake.driver->stream_synchronize.attempt(bench.stream) == Result::illegal_address);
  CHECK(bench.reported("given back before the copy began"));
}

UNIT_TEST(device_memory_that_a_copy_needs_is_not_to_be_unmapped) {
  const Bench bench(context);
  bench.fake.hold(1);
  bench.upload();
  bench.fake.driver->mem_unmap(bench.device, granule);
  CHECK(bench.reported("cuMemUnmap: a copy still needs this memory"));
  bench.fake.hold(0);
  CHECK(bench.fake.driver->stream_synchronize.attempt(bench.stream) == Result::illegal_address);
}

UNIT_TEST(the_nth_call_fails_and_no_other) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  bench.fake.fail("cuStreamQuery", 2, 999, 2);
  CHECK(driver.stream_query.attempt(bench.stream) == Result::success);
  CHECK(driver.stream_query.attempt(bench.stream) == Result::unknown);
  CHECK(driver.stream_query.attempt(bench.stream) == Result::unknown);
  CHECK(driver.stream_query.attempt(bench.stream) == Result::success);
  CHECK_EQUAL(bench.fake.calls("cuStreamQuery"), 4);
  bench.fake.fail(nullptr, 2, 2, 1);
  CHECK(driver.stream_query.attempt(bench.stream) == Result::success);
  CHECK(driver.event_query.attempt(bench.event) == Result::out_of_memory);
  CHECK(driver.event_query.attempt(bench.event) == Result::success);
  bench.fake.fail("cuStreamQuery", 1, 999, 1);
  bench.fake.fail(nullptr, 0, 0, 0);
  CHECK(driver.stream_query.attempt(bench.stream) == Result::success);
}

UNIT_TEST(what_gives_back_does_so_though_it_fails) {
  Bench bench(context);
  for (const char* name :
       {"cuMemFreeHost", "cuEventDestroy_v2", "cuStreamDestroy_v2", "cuMemUnmap", "cuMemRelease",
        "cuMemAddressFree", "cuCtxPopCurrent_v2", "cuDevicePrimaryCtxRelease_v2"}) {
    bench.fake.fail(name, 1, 999, 2);
  }
  const Driver& driver = *bench.fake.driver;
  for (std::byte* slab : bench.slabs) {
    CHECK(driver.mem_free_host.attempt(slab) == Result::unknown);
  }
  CHECK(driver.event_destroy.attempt(bench.event) == Result::unknown);
  CHECK(driver.stream_destroy.attempt(bench.stream) == Result::unknown);
  CHECK(driver.mem_unmap.attempt(bench.device, granule) == Result::unknown);
  CHECK(driver.mem_release.attempt(bench.handle) == Result::unknown);
  CHECK(driver.mem_address_free.attempt(bench.device, granule) == Result::unknown);
  bench.current.reset();
  bench.primary.reset();
  CHECK_EQUAL(std::string(bench.fake.report()), "");
}

UNIT_TEST(an_error_on_the_device_stays) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  bench.fake.fail_copy(2, 700);
  bench.upload();
  driver.stream_synchronize(bench.stream);
  bench.upload();
  CHECK(driver.stream_synchronize.attempt(bench.stream) == Result::illegal_address);
  CHECK(driver.stream_query.attempt(bench.stream) == Result::illegal_address);
  CHECK_THROWS(CudaError, bench.upload());
  CHECK_EQUAL(bench.fake.statistics(FAKE_COPIES_TO_DEVICE), 1);
}

UNIT_TEST(the_link_keeps_its_rate) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  constexpr std::uint64_t rate = 500'000'000;
  bench.fake.configure([](auto& it) { it.to_device_rate = rate; });
  Event begin = nullptr;
  Event end = nullptr;
  driver.event_create(&begin, 0);
  driver.event_create(&end, 0);
  bench.upload();
  driver.event_record(begin, bench.stream);
  constexpr int copies = 10;
  for (int copy = 0; copy < copies; ++copy) {
    bench.upload();
  }
  driver.event_record(end, bench.stream);
  driver.event_synchronize(end);
  float milliseconds = 0;
  driver.event_elapsed_time(&milliseconds, begin, end);
  // By the clock of the simulated hardware, so that no machine is too slow for this.
  const double expected = 1e3 * copies * granule / rate;
  CHECK(milliseconds > 0.999 * expected);
  CHECK(milliseconds < 1.001 * expected + 1);
  driver.event_destroy(begin);
  driver.event_destroy(end);
}

UNIT_TEST(new_memory_can_be_poisoned) {
  const FakeDriver fake(context);
  fake.configure([](auto& it) { it.poison = 1; });
  const Driver& driver = *fake.driver;
  driver.init(0);
  const AllocationProperties wanted = properties();
  AllocationHandle handle = 0;
  DevicePointer pointer = 0;
  driver.mem_create(&handle, granule, &wanted, 0);
  driver.mem_address_reserve(&pointer, granule, 0, 0, 0);
  driver.mem_map(pointer, granule, 0, handle, 0);
  unsigned char last = 0;
  CHECK_EQUAL(fake.read_device(pointer + granule - 1, &last, 1), 0);
  CHECK_EQUAL(last, 0xA5);
  CHECK_EQUAL(fake.read_device(pointer + granule - 1, &last, 2), 1);
}

UNIT_TEST(pointers_are_told_apart) {
  const Bench bench(context);
  const Driver& driver = *bench.fake.driver;
  MemoryType type = MemoryType::host;
  const auto address = [](const void* pointer) {
    return reinterpret_cast<DevicePointer>(pointer);  // NOLINT(*-reinterpret-cast)
  };
  driver.pointer_get_attribute(&type, PointerAttribute::memory_type, bench.device);
  CHECK(type == MemoryType::device);
  driver.pointer_get_attribute(&type, PointerAttribute::memory_type, address(bench.slabs[0]));
  CHECK(type == MemoryType::host);
  CHECK(driver.pointer_get_attribute.attempt(&type, PointerAttribute::memory_type,
                                             address(&type)) == Result::invalid_value);
}

UNIT_TEST(threads_may_use_it_at_once) {
  Bench bench(context);
  {
    std::vector<std::jthread> threads;
    threads.reserve(2);
    for (std::size_t index = 0; index < 2; ++index) {
      threads.emplace_back([&bench, index] {
        const CurrentContext current(*bench.primary);
        const Driver& driver = *bench.fake.driver;
        Event done = nullptr;
        driver.event_create(&done, event_disable_timing);
        constexpr std::size_t half = granule / 2;
        for (int round = 0; round < 20; ++round) {
          std::fill_n(bench.slabs.at(index), half, static_cast<std::byte>(index + 1));
          driver.memcpy_htod_async(bench.device + index * half, bench.slabs.at(index), half,
                                   bench.stream);
          driver.event_record(done, bench.stream);
          driver.event_synchronize(done);
        }
        driver.event_destroy(done);
      });
    }
  }
  std::vector<std::byte> bytes(granule);
  CHECK_EQUAL(bench.fake.read_device(bench.device, bytes.data(), granule), 0);
  CHECK(bytes.front() == std::byte{1});
  CHECK(bytes.back() == std::byte{2});
  bench.tear_down();
  CHECK_EQUAL(std::string(bench.fake.report()), "");
}

}  // namespace
}  // namespace pipelined::weights::cuda
