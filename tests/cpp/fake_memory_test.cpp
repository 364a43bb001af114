// The fake driver's memory: its limits, its addresses, and what may be done with which.

#include <string>

#include "fake_bench.hpp"
#include "testing.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::Bench;
using testing::FakeDriver;
using testing::granule;
using testing::properties;
using testing::second;

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

}  // namespace
}  // namespace pipelined::weights::cuda
