// When the fake driver's streams do what they were asked: as late as a device, and in its order.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "fake_bench.hpp"
#include "testing.hpp"
#include "weights/cuda/context.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::Bench;
using testing::first;
using testing::granule;
using testing::second;

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

UNIT_TEST(a_destroyed_stream_still_does_its_work) {
  const Bench bench(context);
  bench.fill(first);
  bench.upload();
  bench.fake.driver->stream_destroy(bench.stream);
  bench.fake.drain();
  CHECK(bench.content() == first);
  CHECK_EQUAL(std::string(bench.fake.misuse()), "");
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
