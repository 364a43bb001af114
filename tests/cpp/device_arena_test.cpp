#include "weights/cuda/device_arena.hpp"

#include <memory>
#include <string>

#include "fake_driver.hpp"
#include "testing.hpp"
#include "weights/cuda/context.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::FakeDriver;

UNIT_TEST(keeps_its_addresses_without_memory) {
  const FakeDriver fake(context);
  {
    const auto primary = std::make_shared<const PrimaryContext>(fake.driver, 0);
    const CurrentContext current(*primary);
    constexpr std::uint64_t wanted = DeviceArena::max_allocation_bytes * 2 + 1;
    const std::uint64_t bytes = DeviceArena::rounded(*primary, wanted);
    CHECK(bytes >= wanted);
    DeviceArena arena(primary, bytes);
    CHECK_EQUAL(fake.statistics(FAKE_DEVICE_BYTES), 0);
    const DevicePointer base = arena.base();
    for (int round = 0; round < 2; ++round) {
      arena.map();
      CHECK_EQUAL(arena.mapped_bytes(), bytes);
      CHECK_EQUAL(fake.statistics(FAKE_DEVICE_BYTES), bytes);
      char last = 'x';
      CHECK_EQUAL(fake.write_device(base + bytes - 1, &last, 1), 0);
      arena.unmap();
      CHECK_EQUAL(fake.statistics(FAKE_DEVICE_BYTES), 0);
      CHECK(arena.base() == base);
    }
    CHECK_EQUAL(fake.calls("cuMemCreate"), 6);
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(maps_all_or_nothing) {
  const FakeDriver fake(context);
  {
    const auto primary = std::make_shared<const PrimaryContext>(fake.driver, 0);
    const CurrentContext current(*primary);
    DeviceArena arena(primary,
                      DeviceArena::rounded(*primary, DeviceArena::max_allocation_bytes * 2));
    for (const char* call : {"cuMemCreate", "cuMemMap", "cuMemRelease"}) {
      for (std::uint64_t n = 1; n <= 2; ++n) {
        fake.fail(call, n, 999, 1);
        CHECK_THROWS(CudaError, arena.map());
        CHECK_EQUAL(arena.mapped_bytes(), 0);
        CHECK_EQUAL(fake.statistics(FAKE_DEVICE_BYTES), 0);
      }
    }
    fake.fail("cuMemSetAccess", 1, 999, 1);
    CHECK_THROWS(CudaError, arena.map());
    CHECK_EQUAL(fake.statistics(FAKE_DEVICE_BYTES), 0);
    arena.map();
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(can_be_empty) {
  const FakeDriver fake(context);
  {
    const auto primary = std::make_shared<const PrimaryContext>(fake.driver, 0);
    const CurrentContext current(*primary);
    DeviceArena arena(primary, DeviceArena::rounded(*primary, 0));
    arena.map();
    arena.unmap();
    CHECK_EQUAL(fake.calls("cuMemAddressReserve"), 0);
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

}  // namespace
}  // namespace pipelined::weights::cuda
