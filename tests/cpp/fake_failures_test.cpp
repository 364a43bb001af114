// Failures that the fake driver is told to have.

#include <cstddef>
#include <string>

#include "fake_bench.hpp"
#include "testing.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::Bench;
using testing::granule;

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

}  // namespace
}  // namespace pipelined::weights::cuda
