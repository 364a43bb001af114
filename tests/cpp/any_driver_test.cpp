#include "any_driver.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "checkpoints.hpp"
#include "testing.hpp"
#include "weights/budget.hpp"
#include "weights/cuda/context.hpp"
#include "weights/cuda/device_arena.hpp"
#include "weights/cuda/device_checkpoint.hpp"
#include "weights/cuda/pinned_ring.hpp"
#include "weights/cuda/stream.hpp"
#include "weights/errors.hpp"
#include "weights/plan.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::AnyDriver;
using testing::holds;
using testing::write_checkpoint;

constexpr std::uint64_t mebibyte = std::uint64_t{1} << 20U;

std::vector<std::size_t> mixed_sizes() {
  std::vector<std::size_t> sizes{3, 20 * mebibyte, 0, 1, 4096, 70'001, 255, 256};
  sizes.resize(400, 33);
  return sizes;
}

UNIT_TEST(an_error_has_the_drivers_words) {
  const AnyDriver any(context);
  any.driver->init(0);
  try {
    const PrimaryContext none(any.driver, 1000);
    CHECK(false);
  } catch (const CudaError& error) {
    CHECK_EQUAL(error.call(), "cuDeviceGet");
    CHECK_EQUAL(error.code(), 101);
    CHECK_EQUAL(error.name(), "CUDA_ERROR_INVALID_DEVICE");
    CHECK(std::string(error.what()).size() > error.call().size() + error.name().size() + 8);
  }
  CHECK_EQUAL(any.report(), "");
}

UNIT_TEST(there_is_one_primary_context) {
  const AnyDriver any(context);
  {
    const PrimaryContext first(any.driver, 0);
    const PrimaryContext second(any.driver, 0);
    CHECK(first.handle() != nullptr);
    CHECK(first.handle() == second.handle());
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int index = 0; index < 4; ++index) {
      threads.emplace_back([&] {
        const CurrentContext outer(first);
        const CurrentContext inner(second);
      });
    }
  }
  CHECK_EQUAL(any.report(), "");
}

UNIT_TEST(an_arena_gives_its_memory_back_and_keeps_its_addresses) {
  const AnyDriver any(context);
  {
    const auto primary = std::make_shared<const PrimaryContext>(any.driver, 0);
    const CurrentContext current(*primary);
    // More than one allocation.
    const std::uint64_t wanted = DeviceArena::max_allocation_bytes + 3 * mebibyte;
    const std::uint64_t bytes = DeviceArena::rounded(*primary, wanted);
    CHECK(bytes >= wanted);
    const std::size_t before = any.device_bytes();
    DeviceArena arena(primary, bytes);
    CHECK(arena.base() % 256 == 0);
    CHECK(any.device_bytes() < before + bytes);
    for (int round = 0; round < 3; ++round) {
      const DevicePointer base = arena.base();
      arena.map();
      CHECK_EQUAL(arena.mapped_bytes(), bytes);
      CHECK(any.device_bytes() >= before + bytes);
      arena.unmap();
      CHECK(any.device_bytes() < before + bytes);
      CHECK(arena.base() == base);
    }
  }
  CHECK_EQUAL(any.report(), "");
}

UNIT_TEST(bytes_go_to_the_device_and_come_back) {
  const AnyDriver any(context);
  {
    const auto primary = std::make_shared<const PrimaryContext>(any.driver, 0);
    const CurrentContext current(*primary);
    const std::size_t bytes = 2 * mebibyte;
    PinnedRing ring(primary, bytes, Budget::create("pinned memory", 2 * bytes));
    const PinnedRing::Lease there = ring.acquire({});
    const PinnedRing::Lease back = ring.acquire({});
    // As sources want it.
    void* aligned = there.bytes().data();
    std::size_t space = bytes;
    CHECK(std::align(chunk_granularity, 1, aligned, space) == there.bytes().data());
    const std::string content = testing::numbered(bytes);
    std::memcpy(there.bytes().data(), content.data(), bytes);
    DeviceArena arena(primary, DeviceArena::rounded(*primary, bytes));
    arena.map();
    // The second stream knows of the first by the event alone.
    const OwnStream first(*primary);
    const OwnStream second(*primary);
    const OwnEvent event(*primary);
    for (std::size_t done = 0; done < bytes; done += 4096) {
      any.driver->memcpy_htod_async(arena.base() + done, there.bytes().data() + done, 4096,
                                    first.handle());
    }
    event.record(first.handle());
    any.driver->stream_wait_event(second.handle(), event.handle(), 0);
    any.driver->memcpy_dtoh_async(back.bytes().data(), arena.base(), bytes, second.handle());
    CHECK(second.settle());
    CHECK(std::memcmp(back.bytes().data(), content.data(), bytes) == 0);
    event.synchronize();
  }
  CHECK_EQUAL(any.report(), "");
}

struct Fixture {
  explicit Fixture(const testing::Context& context, std::uint64_t pinned_bytes = 64 * mebibyte,
                   std::optional<std::uint64_t> device_bytes = {})
      : any(context), device(LoadingDevice::open(any.driver, 0, pinned_bytes, device_bytes)) {}

  [[nodiscard]] std::shared_ptr<DeviceCheckpoint> load(
      const std::vector<std::string>& paths, DeviceCheckpoint::Options options = {}) const {
    return DeviceCheckpoint::start(device, CheckpointFile::open(paths), options);
  }
  [[nodiscard]] std::size_t device_bytes() const {
    const CurrentContext current(*device.context);
    return any.device_bytes();
  }
  void finish() {
    device = {};
    CHECK_EQUAL(any.report(), "");
  }

  AnyDriver any;
  LoadingDevice device;
};

UNIT_TEST(files_arrive_whole_however_they_are_read) {
  // Slabs of the usual size, and some that hold next to nothing.
  for (const std::uint64_t pinned : {64 * mebibyte, mebibyte / 4}) {
    Fixture fixture(context, pinned);
    const std::vector<std::string> paths{
        write_checkpoint(context.directory / "a", mixed_sizes(), 1),
        write_checkpoint(context.directory / "b", {}),
        write_checkpoint(context.directory / "c", std::vector<std::size_t>{50'000}),
    };
    for (const ReadMode mode : {ReadMode::automatic, ReadMode::buffered, ReadMode::direct}) {
      const auto loaded = fixture.load(paths, {.mode = mode});
      loaded->wait();
      for (std::size_t file = 0; file < paths.size(); ++file) {
        CHECK(holds(*loaded, file));
      }
    }
    CHECK(fixture.device.ring->budget().peak() <= pinned);
    fixture.finish();
  }
}

UNIT_TEST(loads_at_once_do_not_mix) {
  Fixture fixture(context, 4 * mebibyte);
  const std::vector<std::string> paths{
      write_checkpoint(context.directory / "a", std::vector<std::size_t>(300, 70'001))};
  std::vector<std::shared_ptr<DeviceCheckpoint>> loads(6);
  {
    std::vector<std::jthread> threads;
    threads.reserve(loads.size());
    for (auto& load : loads) {
      threads.emplace_back([&] { load = fixture.load(paths); });
    }
  }
  for (const auto& load : loads) {
    load->wait();
    CHECK(holds(*load));
  }
  loads.clear();
  fixture.finish();
}

UNIT_TEST(asleep_it_takes_no_memory_and_awake_it_is_what_it_was) {
  Fixture fixture(context);
  const std::vector<std::string> paths{
      write_checkpoint(context.directory / "a", std::vector<std::size_t>(5, 9 * mebibyte)),
      write_checkpoint(context.directory / "b", std::vector<std::size_t>{100})};
  {
    const auto loaded = fixture.load(paths);
    loaded->wait();
    const DevicePointer address = loaded->address(1, 0);
    std::string written(100, 'x');
    {
      const CurrentContext current(*fixture.device.context);
      // From memory that is not pinned: the call returns when it has been read.
      fixture.any.driver->memcpy_htod_async(address, written.data(), written.size(), nullptr);
    }
    const std::size_t awake = fixture.device_bytes();
    const std::size_t held = loaded->stats().resident_bytes;
    CHECK(held >= 45 * mebibyte);
    for (const bool unmodified : {false, true}) {
      loaded->sleep(unmodified);
      CHECK(fixture.device_bytes() + held <= awake + 2 * mebibyte);
      CHECK_THROWS(Asleep, loaded->make_wait(nullptr));
      loaded->wake();
      CHECK(loaded->address(1, 0) == address);
      CHECK(holds(*loaded, 0));
      std::string found(100, '\0');
      loaded->read_back(1, 0, std::as_writable_bytes(std::span(found)));
      CHECK_EQUAL(found, written);
    }
  }
  fixture.finish();
}

UNIT_TEST(memory_comes_back_from_what_was_dropped_cancelled_or_refused) {
  Fixture fixture(context, 64 * mebibyte, 64 * mebibyte);
  const std::vector<std::string> paths{
      write_checkpoint(context.directory / "a", std::vector<std::size_t>(5, 9 * mebibyte))};
  fixture.load(paths)->wait();
  const std::size_t before = fixture.device_bytes();
  for (int round = 0; round < 10; ++round) {
    const auto loaded = fixture.load(paths);
    loaded->cancel();
    try {
      loaded->wait();
      CHECK(holds(*loaded));
      CHECK_THROWS(OverBudget, fixture.load(paths)->wait());
    } catch (const Cancelled&) {
      CHECK_EQUAL(loaded->stats().resident_bytes, 0);
    }
  }
  CHECK(fixture.device_bytes() <= before + 2 * mebibyte);
  CHECK_THROWS(OverBudget, fixture.load({write_checkpoint(
                               context.directory / "b", std::vector<std::size_t>{65 * mebibyte})}));
  {
    const auto loaded = fixture.load(paths);
    loaded->wait();
    CHECK(holds(*loaded));
    CHECK_THROWS(OverBudget, fixture.load(paths)->wait());
  }
  fixture.finish();
}

}  // namespace
}  // namespace pipelined::weights::cuda
