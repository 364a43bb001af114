#include "weights/cuda/device_checkpoint.hpp"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "checkpoints.hpp"
#include "fake_driver.hpp"
#include "testing.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::FakeDriver;
using testing::holds;
using testing::write_checkpoint;

// Small, so that slabs are few and of little use: 16 KiB, of which 8 KiB are for a chunk.
constexpr std::uint64_t tight = std::uint64_t{64} << 10U;

struct Fixture {
  Fixture(const testing::Context& context, std::uint64_t pinned_bytes,
          std::optional<std::uint64_t> device_bytes = {})
      : fake(context) {
    device = LoadingDevice::open(fake.driver, 0, pinned_bytes, device_bytes);
  }

  [[nodiscard]] std::shared_ptr<DeviceCheckpoint> load(
      const std::vector<std::string>& paths, DeviceCheckpoint::Options options = {}) const {
    return DeviceCheckpoint::start(device, CheckpointFile::open(paths), options);
  }
  // Nothing may be left once the device is closed.
  void finish() {
    device = {};
    CHECK_EQUAL(std::string(fake.report()), "");
  }

  FakeDriver fake;
  LoadingDevice device;
};

std::vector<std::size_t> mixed_sizes() {
  std::vector<std::size_t> sizes{3, 200'000, 0, 1, 4096, 70'001, 255, 256};
  sizes.resize(400, 33);
  return sizes;
}

std::vector<std::byte> device_bytes(const Fixture& fixture, DevicePointer at, std::size_t count) {
  std::vector<std::byte> bytes(count);
  CHECK_EQUAL(fixture.fake.read_device(at, bytes.data(), count), 0);
  return bytes;
}

UNIT_TEST(loads_what_is_in_the_files) {
  Fixture fixture(context, tight);
  const std::vector<std::size_t> sizes = mixed_sizes();
  const std::vector<std::string> paths{
      write_checkpoint(context.directory / "a", sizes, 1),
      write_checkpoint(context.directory / "b", {}),
      write_checkpoint(context.directory / "c", std::vector<std::size_t>{0}),
      write_checkpoint(context.directory / "d", std::vector<std::size_t>{50'000}),
  };
  {
    const auto loaded = fixture.load(paths);
    loaded->wait();
    for (std::size_t file = 0; file < paths.size(); ++file) {
      CHECK(holds(*loaded, file));
      CHECK(loaded->progress()[file]->finished().has_value());
    }
    const auto status = loaded->wait_for_news({}, std::chrono::milliseconds(0));
    CHECK_EQUAL(status.loaded_bytes, status.total_bytes);
    CHECK_EQUAL(status.loaded_tensors, status.total_tensors);
    CHECK_EQUAL(status.total_tensors, sizes.size() + 2);
    CHECK(fixture.fake.statistics(FAKE_PINNED_PEAK) <= tight);
    CHECK_EQUAL(fixture.fake.statistics(FAKE_PAGEABLE_COPIES), sizes.size() + 1 - 1);
  }
  fixture.finish();
}

UNIT_TEST(loads_nothing_at_all) {
  Fixture fixture(context, tight);
  {
    fixture.load({})->wait();
    const auto loaded = fixture.load({write_checkpoint(context.directory / "a", {})});
    loaded->wait();
    loaded->sleep(false);
    loaded->wake();
  }
  fixture.finish();
}

UNIT_TEST(many_small_tensors_are_few_copies) {
  Fixture fixture(context, std::uint64_t{64} << 20U);
  const std::vector<std::size_t> sizes(20'000, 12);
  const std::string path = write_checkpoint(context.directory / "a", sizes);
  {
    const auto loaded = fixture.load({path});
    loaded->wait();
    CHECK_EQUAL(fixture.fake.statistics(FAKE_COPIES_TO_DEVICE), 1);
    CHECK(holds(*loaded));
  }
  fixture.finish();
}

UNIT_TEST(late_copies_meet_slabs_that_wait_for_them) {
  Fixture fixture(context, tight);
  fixture.fake.configure([](auto& it) {
    it.late_microseconds = 2000;
    it.lazy = 1;
    it.poison = 1;
  });
  const std::string path = write_checkpoint(context.directory / "a", mixed_sizes());
  {
    const auto loaded = fixture.load({path});
    loaded->wait();
    CHECK(holds(*loaded));
    CHECK_EQUAL(std::string(fixture.fake.misuse()), "");
  }
  fixture.finish();
}

UNIT_TEST(a_stream_waits_for_what_was_only_asked_for) {
  Fixture fixture(context, tight * 64);
  const std::string path = write_checkpoint(context.directory / "a", mixed_sizes());
  fixture.fake.hold(1);
  {
    const auto loaded = fixture.load({path});
    loaded->wait_enqueued();
    const CurrentContext current(*fixture.device.context);
    const Driver& driver = *fixture.fake.driver;
    const OwnStream consumer(*fixture.device.context);
    loaded->make_wait(consumer.handle());
    CHECK(driver.stream_query.attempt(consumer.handle()) == Result::not_ready);
    // Too late for that: the copies are on their way.
    loaded->cancel();
    fixture.fake.hold(0);
    driver.stream_synchronize(consumer.handle());
    const TensorInfo& tensor = loaded->files()[0].header->tensors()[1];
    const std::string expected = testing::numbered(tensor.end);
    const auto actual = device_bytes(fixture, loaded->address(0, 1), tensor.bytes());
    for (std::size_t index = 0; index < actual.size(); ++index) {
      CHECK(static_cast<char>(actual[index]) == expected[tensor.begin + index]);
    }
    loaded->wait();
    CHECK(holds(*loaded));
    loaded->make_wait(consumer.handle());
  }
  fixture.finish();
}

UNIT_TEST(sleeping_gives_the_memory_back_and_waking_the_bytes) {
  Fixture fixture(context, tight);
  const std::string path = write_checkpoint(context.directory / "a", mixed_sizes());
  {
    const auto loaded = fixture.load({path});
    loaded->wait();
    const DevicePointer address = loaded->address(0, 1);
    for (const bool unmodified : {false, true}) {
      loaded->sleep(unmodified);
      loaded->sleep(unmodified);
      CHECK_EQUAL(fixture.fake.statistics(FAKE_DEVICE_BYTES), 0);
      CHECK_EQUAL(fixture.device.memory->used(), 0);
      CHECK_EQUAL(loaded->stats().saved_bytes, 0);
      CHECK_THROWS(Asleep, holds(*loaded));
      CHECK_THROWS(Asleep, loaded->make_wait(nullptr));
      loaded->wake();
      loaded->wake();
      CHECK(loaded->address(0, 1) == address);
      CHECK(holds(*loaded));
    }
  }
  fixture.finish();
}

UNIT_TEST(what_was_written_survives_sleep) {
  Fixture fixture(context, tight);
  const std::string path = write_checkpoint(context.directory / "a", mixed_sizes());
  {
    const auto loaded = fixture.load({path});
    loaded->wait();
    const std::size_t middle = 100'000;
    const std::string written = "changed in place";
    CHECK_EQUAL(
        fixture.fake.write_device(loaded->address(0, 1) + middle, written.data(), written.size()),
        0);
    std::string before(200'000, '\0');
    loaded->read_back(0, 1, std::as_writable_bytes(std::span(before)));
    CHECK_EQUAL(before.substr(middle, written.size()), written);
    loaded->sleep(false);
    const std::uint64_t saved = loaded->stats().saved_bytes;
    CHECK(saved != 0);
    CHECK(saved <= std::uint64_t{2} * 8192);
    // The second time nothing was written since, but the change is still nowhere else.
    for (const bool unmodified : {false, true, true, false}) {
      loaded->wake();
      CHECK_EQUAL(loaded->stats().saved_bytes, 0);
      std::string after(200'000, '\0');
      loaded->read_back(0, 1, std::as_writable_bytes(std::span(after)));
      CHECK(after == before);
      loaded->sleep(unmodified);
      CHECK_EQUAL(loaded->stats().saved_bytes, saved);
    }
  }
  fixture.finish();
}

UNIT_TEST(a_changed_file_is_neither_slept_on_nor_woken) {
  Fixture fixture(context, tight);
  const std::string path = write_checkpoint(context.directory / "a", mixed_sizes());
  const auto touch = [&] {
    using std::filesystem::last_write_time;
    last_write_time(path, last_write_time(path) + std::chrono::seconds(1));
  };
  {
    const auto awake = fixture.load({path});
    awake->wait();
    const auto asleep = fixture.load({path});
    asleep->sleep(true);
    touch();
    CHECK_THROWS(FileChanged, awake->sleep(false));
    CHECK_THROWS(FileChanged, awake->sleep(true));
    CHECK(holds(*awake));
    CHECK_THROWS(FileChanged, asleep->wake());
    CHECK(asleep->stats().state == DeviceCheckpoint::State::asleep);
    CHECK_EQUAL(asleep->stats().resident_bytes, 0);
  }
  fixture.finish();
}

UNIT_TEST(a_file_cut_while_it_is_loaded_is_named) {
  Fixture fixture(context, tight);
  const std::string path = write_checkpoint(context.directory / "a", mixed_sizes());
  fixture.fake.hold(1);
  {
    // With nothing copied, the ring is full and most of the file not read.
    const auto loaded = fixture.load({path});
    std::filesystem::resize_file(path, 100'000);
    fixture.fake.hold(0);
    try {
      loaded->wait();
      CHECK(false);
    } catch (const FileChanged& error) {
      CHECK_EQUAL(error.path(), path);
    }
    CHECK_EQUAL(fixture.fake.statistics(FAKE_DEVICE_BYTES), 0);
    CHECK_EQUAL(fixture.device.memory->used(), 0);
  }
  fixture.finish();
}

UNIT_TEST(a_cancelled_load_leaves_nothing_behind) {
  Fixture fixture(context, tight);
  const std::string path = write_checkpoint(context.directory / "a", mixed_sizes());
  fixture.fake.hold(1);
  {
    const auto loaded = fixture.load({path});
    loaded->cancel();
    fixture.fake.hold(0);
    CHECK_THROWS(Cancelled, loaded->wait());
    CHECK_THROWS(Cancelled, loaded->wait_enqueued());
    CHECK_THROWS(Cancelled, loaded->sleep(false));
    CHECK(loaded->stats().state == DeviceCheckpoint::State::failed);
    CHECK_EQUAL(fixture.fake.statistics(FAKE_DEVICE_BYTES), 0);
    CHECK_EQUAL(fixture.device.memory->used(), 0);
    const auto next = fixture.load({path});
    next->wait();
    CHECK(holds(*next));
  }
  fixture.finish();
}

UNIT_TEST(a_load_that_nobody_wants_ends) {
  Fixture fixture(context, tight);
  const std::string path = write_checkpoint(context.directory / "a", mixed_sizes());
  for (int round = 0; round < 10; ++round) {
    static_cast<void>(fixture.load({path}));
  }
  fixture.finish();
}

UNIT_TEST(loads_at_once_share_the_pinned_memory) {
  Fixture fixture(context, tight);
  fixture.fake.configure([](auto& it) { it.late_microseconds = 100; });
  const std::string first = write_checkpoint(context.directory / "a", mixed_sizes());
  const std::string second =
      write_checkpoint(context.directory / "b", std::vector<std::size_t>{300'000, 7});
  {
    std::vector<std::jthread> threads;
    std::atomic<int> right{0};
    threads.reserve(4);
    for (int index = 0; index < 4; ++index) {
      threads.emplace_back([&, index] {
        const auto loaded = fixture.load({index % 2 == 0 ? first : second});
        loaded->wait();
        loaded->sleep(false);
        loaded->wake();
        right += holds(*loaded) ? 1 : 0;
      });
    }
    threads.clear();
    CHECK_EQUAL(right.load(), 4);
    CHECK(fixture.fake.statistics(FAKE_PINNED_PEAK) <= tight);
  }
  fixture.finish();
}

UNIT_TEST(the_budget_of_device_memory_holds) {
  constexpr std::uint64_t granularity = std::uint64_t{2} << 20U;
  Fixture fixture(context, tight, granularity);
  const std::string path =
      write_checkpoint(context.directory / "a", std::vector<std::size_t>{100'000});
  const std::string large =
      write_checkpoint(context.directory / "b", std::vector<std::size_t>{granularity + 1});
  {
    CHECK_THROWS(OverBudget, fixture.load({large}));
    const auto first = fixture.load({path});
    first->wait();
    CHECK_THROWS(OverBudget, fixture.load({path})->wait());
    const auto second = fixture.load({path}, {.wait_for_memory = true});
    first->sleep(false);
    second->wait();
    CHECK(holds(*second));
    CHECK_THROWS(OverBudget, first->wake());
    const auto third = fixture.load({path}, {.wait_for_memory = true});
    third->cancel();
    CHECK_THROWS(Cancelled, third->wait());
    CHECK_EQUAL(fixture.device.memory->peak(), granularity);
  }
  fixture.finish();
}

UNIT_TEST(a_sparse_file_of_any_size_is_refused_before_it_costs_anything) {
  Fixture fixture(context, tight);
  const std::vector<std::size_t> sizes{std::size_t{1} << 43U};
  const std::string path =
      testing::write_file(context.directory / "a", testing::with_header(testing::header_of(sizes)));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) + sizes[0]);
  CHECK_THROWS(OverBudget, fixture.load({path}));
  fixture.finish();
}

UNIT_TEST(pinned_memory_for_too_little_is_refused) {
  const FakeDriver fake(context);
  CHECK_THROWS(OverBudget, LoadingDevice::open(fake.driver, 0, 1000, {}));
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(two_devices_share_one_ring) {
  Fixture fixture(context, tight);
  fixture.fake.configure([](auto& it) { it.devices = 2; });
  const std::string path = write_checkpoint(context.directory / "a", mixed_sizes());
  {
    const LoadingDevice other = fixture.device.beside(1, {});
    const auto first = fixture.load({path});
    const auto second = DeviceCheckpoint::start(other, CheckpointFile::open(std::vector{path}), {});
    first->wait();
    second->wait();
    CHECK(holds(*first));
    CHECK(holds(*second));
    CHECK_EQUAL(second->device(), 1);
    CHECK(fixture.fake.statistics(FAKE_PINNED_PEAK) <= tight);
  }
  fixture.finish();
}

}  // namespace
}  // namespace pipelined::weights::cuda
