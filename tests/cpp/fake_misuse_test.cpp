// What the fake driver reports of those who use it wrongly, and that it leaves others in peace.

#include <string>
#include <thread>
#include <utility>

#include "fake_bench.hpp"
#include "testing.hpp"
#include "weights/cuda/context.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::Bench;
using testing::first;
using testing::granule;

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

}  // namespace
}  // namespace pipelined::weights::cuda
