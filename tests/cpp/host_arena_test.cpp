#include "weights/host_arena.hpp"

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <thread>

#include "files.hpp"
#include "testing.hpp"
#include "weights/checkpoint.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights {
namespace {

using testing::numbered;
using testing::with_header;
using testing::write_file;
using testing::write_zeros;

UNIT_TEST(offsets_count_from_the_tensors) {
  const std::string content = numbered(20'000);
  const HostArena arena(File::open(write_file(context.directory / "f", content)), 77);
  CHECK_EQUAL(std::memcmp(arena.at(0), content.data() + 77, content.size() - 77), 0);
  CHECK_EQUAL(std::memcmp(arena.at(1000), content.data() + 1077, 100), 0);
  CHECK_EQUAL(arena.progress()->total_bytes(), content.size() - 77);
}

UNIT_TEST(knows_where_the_bytes_were) {
  const std::string fresh = write_zeros(context.directory / "zeros", 8U << 20U);
  const HostArena cold(File::open(fresh), 0);
  CHECK(cold.source() == Source::disk);
  const std::string written = write_file(context.directory / "f", numbered(50'000));
  const HostArena warm(File::open(written), 0);
  CHECK(warm.source() == Source::page_cache);
  CHECK_EQUAL(source_name(Source::disk), "disk");
  CHECK_EQUAL(source_name(Source::page_cache), "page cache");
  CHECK_EQUAL(source_name(Source::unknown), "unknown");
}

UNIT_TEST(several_threads_populate_once) {
  HostArena arena(File::open(write_zeros(context.directory / "f", 64U << 20U)), 8);
  {
    const auto populate = [&arena] { arena.populate(); };
    const std::array threads{std::jthread(populate), std::jthread(populate), std::jthread(populate),
                             std::jthread(populate)};
  }
  while (!arena.progress()->finished()) {
    CHECK_EQUAL(arena.progress()->error(), 0);
    std::this_thread::yield();
  }
  CHECK_EQUAL(arena.progress()->loaded_bytes(), arena.progress()->total_bytes());
}

UNIT_TEST(a_checkpoint_is_a_header_and_its_bytes) {
  const std::string path =
      write_file(context.directory / "f",
                 with_header(R"({"t":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "abc"));
  std::shared_ptr<HostArena> arena;
  {
    const Checkpoint checkpoint = Checkpoint::open(path);
    CHECK_EQUAL(checkpoint.path, path);
    CHECK_EQUAL(checkpoint.header->tensors().size(), 1);
    arena = checkpoint.arena;
  }
  CHECK_EQUAL(std::memcmp(arena->at(0), "abc", 3), 0);
}

UNIT_TEST(a_malformed_checkpoint_is_named) {
  const std::string path = write_file(context.directory / "f", with_header("{}", "x"));
  try {
    static_cast<void>(Checkpoint::open(path));
    CHECK(false);
  } catch (const TrailingBytes& error) {
    CHECK_EQUAL(error.path(), path);
    CHECK(std::string(error.what()).find(path) != std::string::npos);
  }
  CHECK_THROWS(HeaderTooSmall, Checkpoint::open(write_file(context.directory / "f", "")));
}

}  // namespace
}  // namespace pipelined::weights
