#include "weights/mapping.hpp"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>

#include "files.hpp"
#include "testing.hpp"
#include "weights/errors.hpp"
#include "weights/file.hpp"

namespace pipelined::weights {
namespace {

using testing::numbered;
using testing::write_file;
using testing::write_zeros;

UNIT_TEST(shows_the_file_and_keeps_changes_to_itself) {
  const std::string content = numbered(100'000);
  const std::string path = write_file(context.directory / "f", content);
  const File file = File::open(path);
  const Mapping first(file);
  const Mapping second(file);
  CHECK_EQUAL(first.size(), content.size());
  CHECK_EQUAL(std::memcmp(first.data(), content.data(), content.size()), 0);
  first.data()[5000] = std::byte{0xEE};
  first.data()[5001] = std::byte{0xEE};
  CHECK_EQUAL(std::memcmp(second.data(), content.data(), content.size()), 0);
  const Mapping third(file);
  CHECK_EQUAL(std::memcmp(third.data(), content.data(), content.size()), 0);
}

UNIT_TEST(outlives_the_name_of_its_file) {
  const auto path = context.directory / "f";
  const std::string content = numbered(10'000);
  const File file = File::open(write_file(path, content));
  const Mapping mapping(file);
  std::filesystem::remove(path);
  CHECK_EQUAL(std::memcmp(mapping.data(), content.data(), content.size()), 0);
}

UNIT_TEST(populating_brings_pages_in) {
  constexpr std::size_t bytes = 64U << 20U;
  const File file = File::open(write_zeros(context.directory / "f", bytes));
  const Mapping mapping(file);
  CHECK(!mapping.sample_resident());
  CHECK_EQUAL(mapping.populate(0, bytes / 2), 0);
  CHECK(!mapping.sample_resident());
  // A length beyond the end is cut.
  CHECK_EQUAL(mapping.populate(bytes / 2, bytes), 0);
  CHECK(mapping.sample_resident());
}

UNIT_TEST(populating_what_was_cut_off_is_an_error_and_no_signal) {
  const auto path = context.directory / "f";
  const File file = File::open(write_zeros(path, 1U << 20U));
  const Mapping mapping(file);
  std::filesystem::resize_file(path, 4096);
  CHECK_EQUAL(mapping.populate(0, 1U << 20U), EFAULT);
}

UNIT_TEST(nothing_cannot_be_mapped) {
  const File file = File::open(write_file(context.directory / "f", ""));
  CHECK_THROWS(IoError, Mapping(file));
}

}  // namespace
}  // namespace pipelined::weights
