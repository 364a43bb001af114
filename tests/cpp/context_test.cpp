#include "weights/cuda/context.hpp"

#include <string>
#include <thread>

#include "fake_driver.hpp"
#include "testing.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::FakeDriver;

Context current(const Driver& driver) {
  Context context = nullptr;
  driver.ctx_get_current(&context);
  return context;
}

UNIT_TEST(holds_one_reference_for_its_life) {
  const FakeDriver fake(context);
  {
    const PrimaryContext primary(fake.driver, 0);
    CHECK(primary.handle() != nullptr);
    CHECK_EQUAL(primary.ordinal(), 0);
    CHECK_EQUAL(std::string(fake.leaks()), "still held: 1 references on the context of device 0\n");
    const PrimaryContext same(fake.driver, 0);
    CHECK(same.handle() == primary.handle());
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(a_device_that_is_not_there_is_an_error) {
  const FakeDriver fake(context);
  CHECK_THROWS(CudaError, PrimaryContext(fake.driver, 7));
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(every_failing_call_leaves_nothing_behind) {
  const FakeDriver fake(context);
  for (const char* call : {"cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"}) {
    fake.fail(call, 1, 999, 1);
    CHECK_THROWS(CudaError, PrimaryContext(fake.driver, 0));
    CHECK_EQUAL(std::string(fake.report()), "");
  }
}

UNIT_TEST(current_contexts_nest) {
  const FakeDriver fake(context);
  fake.configure([](auto& it) { it.devices = 2; });
  {
    const PrimaryContext first(fake.driver, 0);
    const PrimaryContext second(fake.driver, 1);
    const CurrentContext outer(first);
    {
      const CurrentContext inner(second);
      CHECK(current(*fake.driver) == second.handle());
    }
    CHECK(current(*fake.driver) == first.handle());
  }
  CHECK(current(*fake.driver) == nullptr);
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(a_failing_push_pops_nothing) {
  const FakeDriver fake(context);
  {
    const PrimaryContext primary(fake.driver, 0);
    const CurrentContext outer(primary);
    fake.fail("cuCtxPushCurrent_v2", 1, 999, 1);
    CHECK_THROWS(CudaError, CurrentContext(primary));
    CHECK(current(*fake.driver) == primary.handle());
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(a_context_is_current_in_one_thread) {
  const FakeDriver fake(context);
  {
    const PrimaryContext primary(fake.driver, 0);
    const CurrentContext here(primary);
    Context seen = primary.handle();
    Context pushed = nullptr;
    std::jthread([&] {
      seen = current(*fake.driver);
      const CurrentContext there(primary);
      pushed = current(*fake.driver);
    }).join();
    CHECK(seen == nullptr);
    CHECK(pushed == primary.handle());
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

}  // namespace
}  // namespace pipelined::weights::cuda
