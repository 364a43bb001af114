#include "weights/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "weights/errors.hpp"

namespace pipelined::weights {

File::File(std::string path, int descriptor) noexcept
    : path_(std::move(path)), descriptor_(descriptor) {}

File::File(File&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_),
      modified_(other.modified_) {}

File& File::operator=(File&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(descriptor_, other.descriptor_);
  std::swap(size_, other.size_);
  std::swap(modified_, other.modified_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) {
    // Nothing was written, so an error here loses nothing; Linux frees the descriptor in any case.
    static_cast<void>(::close(descriptor_));
  }
}

File File::open(const std::string& path) {
  // O_NONBLOCK: a path that names a FIFO must not hang the caller. It means nothing for a file.
  constexpr int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  int descriptor = -1;
  do {
    descriptor = ::open(path.c_str(), flags);  // NOLINT(cppcoreguidelines-pro-type-vararg)
  } while (descriptor < 0 && errno == EINTR);
  if (descriptor < 0) {
    throw IoError("open", path, errno);
  }
  File file(path, descriptor);
  struct stat status{};
  if (::fstat(descriptor, &status) != 0) {
    throw IoError("fstat", path, errno);
  }
  if (!S_ISREG(status.st_mode)) {
    throw IoError("open", path, S_ISDIR(status.st_mode) ? EISDIR : ENODEV);
  }
  file.size_ = static_cast<std::uint64_t>(status.st_size);
  file.modified_ = status.st_mtim;
  return file;
}

File File::duplicate() const {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg)
  const int descriptor = ::fcntl(descriptor_, F_DUPFD_CLOEXEC, 0);
  if (descriptor < 0) {
    throw IoError("duplicate the descriptor of", path_, errno);
  }
  File file(path_, descriptor);
  file.size_ = size_;
  file.modified_ = modified_;
  return file;
}

bool File::is_unchanged() const noexcept {
  struct stat status{};
  return ::fstat(descriptor_, &status) == 0 && std::cmp_equal(status.st_size, size_) &&
         status.st_mtim.tv_sec == modified_.tv_sec && status.st_mtim.tv_nsec == modified_.tv_nsec;
}

bool File::shows_residency() const noexcept {
  struct stat status{};
  if (::fstat(descriptor_, &status) != 0) {
    return false;
  }
  const uid_t user = ::geteuid();
  return user == 0 || user == status.st_uid || ::access(path_.c_str(), W_OK) == 0;
}

void File::read_exactly(std::span<std::byte> buffer, std::uint64_t offset) const {
  while (!buffer.empty()) {
    const ssize_t count =
        ::pread(descriptor_, buffer.data(), buffer.size(), static_cast<off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw IoError("read", path_, errno);
    }
    if (count == 0) {
      throw TruncatedFile("the file ended at byte " + std::to_string(offset) +
                          " while it was being read");
    }
    buffer = buffer.subspan(static_cast<std::size_t>(count));
    offset += static_cast<std::uint64_t>(count);
  }
}

}  // namespace pipelined::weights
