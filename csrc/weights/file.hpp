#pragma once

#include <time.h>  // NOLINT(modernize-deprecated-headers): timespec is POSIX's

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace pipelined::weights {

// A regular file that is open for reading; closes its descriptor when it dies.
//
// Reads go through the descriptor and never through a mapping, so that a file which somebody
// truncates is an error here and no SIGBUS. Movable, not copyable; the const members may be called
// from several threads at once.
class File {
 public:
  // Throws IoError; with the code EISDIR or ENODEV for what is not a regular file.
  static File open(const std::string& path);

  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  // The same open file once more: what was found out at opening stays true of it, whatever has
  // become of the path. Throws IoError.
  [[nodiscard]] File duplicate() const;

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  // The size when the file was opened.
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  // Whether size and time of modification are what they were when the file was opened. What becomes
  // of the path does not matter: the descriptor stays with the file that was opened.
  [[nodiscard]] bool is_unchanged() const noexcept;
  // Whether the kernel tells this process which of the file's pages are in memory: it does so only
  // to the owner and to those who may write to the file, and says "all" to everybody else.
  [[nodiscard]] bool shows_residency() const noexcept;

  // Fills the buffer from an offset. Throws IoError, or TruncatedFile where the file ends first.
  void read_exactly(std::span<std::byte> buffer, std::uint64_t offset) const;

 private:
  File(std::string path, int descriptor) noexcept;

  std::string path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
  timespec modified_{};
};

}  // namespace pipelined::weights
