#include "weights/cuda/driver.hpp"

#include <string>

#include "fake_driver.hpp"
#include "testing.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::FakeDriver;

UNIT_TEST(a_missing_driver_is_named) {
  const std::string path = (context.directory / "libnone.so.1").string();
  CHECK_THROWS(DriverMissing, Driver::open(path));
  try {
    Driver::open(path);
  } catch (const DriverMissing& error) {
    CHECK_EQUAL(error.driver(), path);
    CHECK_EQUAL(error.symbol(), "");
    CHECK(std::string(error.what()).find("libnone.so.1: cannot open") != std::string::npos);
  }
}

UNIT_TEST(a_missing_function_is_named) {
  // A library without any of the driver's functions.
  const std::string path = "libdl.so.2";
  CHECK_THROWS(DriverMissing, Driver::open(path));
  try {
    Driver::open(path);
  } catch (const DriverMissing& error) {
    CHECK_EQUAL(error.driver(), path);
    CHECK_EQUAL(error.symbol(), "cuGetErrorName");
    CHECK_EQUAL(std::string(error.what()), "the CUDA driver libdl.so.2 has no cuGetErrorName");
  }
}

UNIT_TEST(opening_calls_nothing) {
  const FakeDriver fake(context);
  CHECK_EQUAL(fake.calls(nullptr), 0);
}

UNIT_TEST(a_failing_call_carries_the_drivers_words) {
  const FakeDriver fake(context);
  fake.fail("cuInit", 1, 100, 1);
  CHECK_THROWS(CudaError, fake.driver->init(0));
  fake.fail("cuInit", 1, 100, 1);
  try {
    fake.driver->init(0);
  } catch (const CudaError& error) {
    CHECK_EQUAL(error.call(), "cuInit");
    CHECK_EQUAL(error.code(), 100);
    CHECK_EQUAL(error.name(), "CUDA_ERROR_NO_DEVICE");
    CHECK_EQUAL(std::string(error.what()),
                "cuInit: CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected");
  }
  fake.driver->init(0);
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(an_unknown_error_keeps_its_number) {
  const FakeDriver fake(context);
  fake.fail("cuInit", 1, 12345, 1);
  try {
    fake.driver->init(0);
    CHECK(false);
  } catch (const CudaError& error) {
    CHECK_EQUAL(error.code(), 12345);
    CHECK_EQUAL(error.name(), "");
    CHECK_EQUAL(std::string(error.what()),
                "cuInit: an error that the driver has no name for (12345)");
  }
}

UNIT_TEST(an_attempt_returns_what_the_driver_did) {
  const FakeDriver fake(context);
  int count = 0;
  CHECK(fake.driver->device_get_count.attempt(&count) == Result::not_initialized);
  fake.driver->init(0);
  CHECK(fake.driver->device_get_count.attempt(&count) == Result::success);
  CHECK_EQUAL(count, 1);
}

UNIT_TEST(every_entry_calls_the_function_that_it_is_named_after) {
  const FakeDriver fake(context);
  std::size_t entries = 0;
#define COUNT_ENTRY(member, symbol, signature)                   \
  CHECK_EQUAL(std::string(fake.driver->member.name()), #symbol); \
  CHECK_EQUAL(std::string(fake.function(entries)), #symbol);     \
  ++entries;
  PIPELINED_CUDA_FUNCTIONS(COUNT_ENTRY)
#undef COUNT_ENTRY
  CHECK(fake.function(entries) == nullptr);
}

}  // namespace
}  // namespace pipelined::weights::cuda
