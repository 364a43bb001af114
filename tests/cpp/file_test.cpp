#include "weights/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

#include "files.hpp"
#include "testing.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights {
namespace {

using testing::write_file;

int code_of_opening(const std::string& path) {
  try {
    static_cast<void>(File::open(path));
  } catch (const IoError& error) {
    CHECK_EQUAL(error.path(), path);
    return error.code();
  }
  return 0;
}

UNIT_TEST(only_regular_files_are_opened) {
  const std::string fifo = (context.directory / "fifo").string();
  CHECK_EQUAL(::mkfifo(fifo.c_str(), 0600), 0);
  CHECK_EQUAL(code_of_opening(fifo), ENODEV);
  CHECK_EQUAL(code_of_opening(context.directory.string()), EISDIR);
  CHECK_EQUAL(code_of_opening((context.directory / "missing").string()), ENOENT);
  CHECK_EQUAL(code_of_opening("/dev/zero"), ENODEV);
}

UNIT_TEST(reads_what_is_there_and_refuses_what_is_not) {
  const File file = File::open(write_file(context.directory / "f", "0123456789"));
  CHECK_EQUAL(file.size(), 10);
  std::array<char, 4> buffer{};
  const auto bytes = std::as_writable_bytes(std::span(buffer));
  file.read_exactly(bytes, 6);
  CHECK_EQUAL(std::string(buffer.data(), buffer.size()), "6789");
  CHECK_THROWS(TruncatedFile, file.read_exactly(bytes, 7));
  CHECK_THROWS(TruncatedFile, file.read_exactly(bytes, 1000));
  file.read_exactly({}, 1000);
}

UNIT_TEST(notices_another_size) {
  const auto path = context.directory / "f";
  const File file = File::open(write_file(path, "0123456789"));
  CHECK(file.is_unchanged());
  std::filesystem::resize_file(path, 9);
  CHECK(!file.is_unchanged());
  CHECK_EQUAL(file.size(), 10);
}

UNIT_TEST(closes_its_descriptor_once_and_not_before) {
  const std::string path = write_file(context.directory / "f", "x");
  int descriptor = -1;
  {
    File first = File::open(path);
    descriptor = first.descriptor();
    const File second(std::move(first));
    CHECK_EQUAL(second.descriptor(), descriptor);
    CHECK_EQUAL(second.path(), path);
    File third = File::open(path);
    third = File::open(path);
    CHECK_EQUAL(third.size(), 1);
    CHECK((::fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0);
  }
  CHECK_EQUAL(::fcntl(descriptor, F_GETFD), -1);
}

}  // namespace
}  // namespace pipelined::weights
