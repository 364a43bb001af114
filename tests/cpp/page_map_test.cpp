#include "weights/page_map.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <string>

#include "files.hpp"
#include "testing.hpp"
#include "weights/file.hpp"
#include "weights/mapping.hpp"

namespace pipelined::weights {
namespace {

using testing::numbered;
using testing::write_file;

constexpr std::size_t page = 4096;

UNIT_TEST(pages_that_nobody_touched_are_the_files) {
  const File file = File::open(write_file(context.directory / "f", numbered(10 * page)));
  const Mapping mapping(file);
  CHECK(pages_are_the_files(mapping.data(), mapping.size()));
  CHECK_EQUAL(mapping.populate(0, mapping.size()), 0);
  CHECK(pages_are_the_files(mapping.data(), mapping.size()));
}

UNIT_TEST(reading_changes_nothing) {
  const File file = File::open(write_file(context.directory / "f", numbered(10 * page)));
  const Mapping mapping(file);
  const auto sum =
      static_cast<unsigned>(mapping.data()[0]) + static_cast<unsigned>(mapping.data()[5 * page]);
  CHECK(sum > 0);
  CHECK(pages_are_the_files(mapping.data(), mapping.size()));
}

UNIT_TEST(a_written_page_is_found_from_any_of_its_bytes) {
  const File file = File::open(write_file(context.directory / "f", numbered(3000 * page)));
  const Mapping mapping(file);
  // Beyond what is looked at in one go, and with what was there before.
  const std::size_t written = 2500 * page + 17;
  mapping.data()[written] = mapping.data()[written];
  CHECK(!pages_are_the_files(mapping.data(), mapping.size()));
  CHECK(!pages_are_the_files(mapping.data() + 2500 * page, 1));
  CHECK(!pages_are_the_files(mapping.data() + 2501 * page - 1, 1));
  CHECK(!pages_are_the_files(mapping.data() + 2499 * page, page + 1));
  CHECK(pages_are_the_files(mapping.data() + 2499 * page, page));
  CHECK(pages_are_the_files(mapping.data() + 2501 * page, mapping.size() - 2501 * page));
  CHECK(pages_are_the_files(mapping.data() + written, 0));
}

UNIT_TEST(a_forked_child_is_told_of_its_own_pages) {
  const File file = File::open(write_file(context.directory / "f", numbered(10 * page)));
  const Mapping mapping(file);
  CHECK(pages_are_the_files(mapping.data(), mapping.size()));
  const pid_t child = ::fork();
  if (child == 0) {
    mapping.data()[0] = mapping.data()[0];
    ::_exit(pages_are_the_files(mapping.data(), mapping.size()) ? 1 : 0);
  }
  int status = -1;
  CHECK_EQUAL(::waitpid(child, &status, 0), child);
  CHECK_EQUAL(status, 0);
  CHECK(pages_are_the_files(mapping.data(), mapping.size()));
}

}  // namespace
}  // namespace pipelined::weights
