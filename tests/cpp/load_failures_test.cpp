// Every call of the driver that one load makes, with a sleep and a wake, fails once.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "checkpoints.hpp"
#include "fake_driver.hpp"
#include "testing.hpp"
#include "weights/cuda/device_checkpoint.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::FakeDriver;

constexpr std::uint64_t tight = std::uint64_t{64} << 10U;

// From opening the device to closing it. Throws what went wrong.
void live(const FakeDriver& fake, const std::string& path) {
  const LoadingDevice device = LoadingDevice::open(fake.driver, 0, tight, {});
  const auto loaded = DeviceCheckpoint::start(device, CheckpointFile::open(std::vector{path}), {});
  loaded->wait_enqueued();
  {
    const CurrentContext current(*device.context);
    const OwnStream consumer(*device.context);
    loaded->make_wait(consumer.handle());
  }
  loaded->wait();
  loaded->sleep(false);
  loaded->wake();
  CHECK(testing::holds(*loaded));
}

std::map<std::string, std::uint64_t> calls_of_one_life(const FakeDriver& fake,
                                                       const std::string& path) {
  fake.forget();
  live(fake, path);
  std::map<std::string, std::uint64_t> counts;
  for (std::uint64_t index = 0; const char* name = fake.function(index); ++index) {
    counts[name] = fake.calls(name);
  }
  return counts;
}

struct Outcomes {
  unsigned injected = 0;
  unsigned errors = 0;
  unsigned survived = 0;
};

// Whether a failure may go unnoticed: giving something back says nothing of this load when it
// fails, and what a destructor needs for that it asks for again.
bool may_survive(const std::string& function) {
  static const std::set<std::string> functions{"cuCtxPopCurrent_v2", "cuCtxPushCurrent_v2",
                                               "cuCtxSynchronize",   "cuDevicePrimaryCtxRelease_v2",
                                               "cuEventDestroy_v2",  "cuMemAddressFree",
                                               "cuMemFreeHost",      "cuMemUnmap",
                                               "cuStreamDestroy_v2"};
  return functions.contains(function);
}

void live_with_failure(const FakeDriver& fake, const std::string& path, const std::string& function,
                       std::uint64_t n, Result result, Outcomes& outcomes) {
  fake.forget();
  fake.fail(function.c_str(), n, static_cast<std::uint32_t>(result), 1);
  try {
    live(fake, path);
    if (fake.calls(function.c_str()) < n) {
      // How many slabs and events there are is a matter of who was faster.
      return fake.fail(nullptr, 0, 0, 0);
    }
    CHECK(may_survive(function));
    ++outcomes.survived;
  } catch (const CudaError& error) {
    CHECK_EQUAL(error.code(), static_cast<unsigned>(result));
    CHECK_EQUAL(error.call(), function);
    ++outcomes.errors;
  }
  ++outcomes.injected;
  fake.fail(nullptr, 0, 0, 0);
  CHECK_EQUAL(function + " " + std::to_string(n) + ": " + fake.report(),
              function + " " + std::to_string(n) + ": ");
}

UNIT_TEST(each_call_that_fails_is_one_error_and_leaves_nothing) {
  const FakeDriver fake(context);
  const std::string path = testing::write_checkpoint(context.directory / "a",
                                                     std::vector<std::size_t>{20'000, 0, 3, 9'000});
  const auto counts = calls_of_one_life(fake, path);
  Outcomes outcomes;
  for (const auto& [function, count] : counts) {
    for (std::uint64_t n = 1; n <= count; ++n) {
      for (const Result result : {Result::out_of_memory, Result::unknown}) {
        live_with_failure(fake, path, function, n, result, outcomes);
      }
      live(fake, path);
    }
  }
  CHECK(outcomes.errors > 100);
  std::printf("%u injected failures: %u errors, %u survived\n", outcomes.injected, outcomes.errors,
              outcomes.survived);
}

UNIT_TEST(each_copy_that_fails_on_the_device_is_one_error_and_leaves_nothing) {
  const FakeDriver fake(context);
  const std::string path =
      testing::write_checkpoint(context.directory / "a", std::vector<std::size_t>{60'000, 3});
  for (std::uint64_t n = 1; n <= 40; ++n) {
    fake.fail_copy(n, static_cast<std::uint32_t>(Result::illegal_address));
    try {
      live(fake, path);
      CHECK(n > 24);
    } catch (const CudaError& error) {
      CHECK_EQUAL(error.code(), static_cast<unsigned>(Result::illegal_address));
    }
    CHECK_EQUAL(std::to_string(n) + ": " + fake.report(), std::to_string(n) + ": ");
    fake.reset();
    live(fake, path);
    fake.reset();
  }
}

}  // namespace
}  // namespace pipelined::weights::cuda
