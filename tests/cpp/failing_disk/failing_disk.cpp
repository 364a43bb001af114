// A disk that is full or broken, for tests: preloaded (LD_PRELOAD), it fails the calls that change
// files below FAILING_DISK_FOLDER as the file FAILING_DISK_CONTROL says, which the test maps, too.
// Without these variables it does nothing.

#include <dlfcn.h>
#include <linux/limits.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

namespace {

enum class Operation : std::uint8_t {
  create,
  write,
  synchronize,
  truncate,
  rename,
  make_folder,
};
constexpr std::size_t kinds = 6;

using Number = std::atomic<std::int64_t>;

// What the test and the daemon share.
struct Control {
  Number seen;   // calls so far that could have failed
  Number first;  // the calls that fail are those from this number on,
  Number last;   // up to, but without, that one
  Number error;  // of those that fail, an errno
  Number torn;   // unless 0, a write that fails has written the first half
  std::array<Number, kinds> seen_of;
  std::array<Number, kinds> failed_of;
};
static_assert(Number::is_always_lock_free, "other processes have it, too");

// Not <fcntl.h>: it declares open() with an ellipsis.
constexpr int o_write = 01;
constexpr int o_read_write = 02;
constexpr int o_create = 0100;

class Disk {
 public:
  Disk() {
    // NOLINTBEGIN(concurrency-mt-unsafe): nobody changes the environment here.
    const char* const folder = std::getenv("FAILING_DISK_FOLDER");
    const char* const control = std::getenv("FAILING_DISK_CONTROL");
    // NOLINTEND(concurrency-mt-unsafe)
    if (folder == nullptr || control == nullptr) {
      return;
    }
    constexpr int working_directory = -100;
    // NOLINTNEXTLINE(*-vararg): open() is one of those that are defined here.
    const auto descriptor = ::syscall(SYS_openat, working_directory, control, o_read_write);
    if (descriptor < 0) {
      std::abort();
    }
    void* const mapped = ::mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED,
                                static_cast<int>(descriptor), 0);
    if (mapped == MAP_FAILED) {
      std::abort();
    }
    ::close(static_cast<int>(descriptor));
    folder_ = folder;
    control_ = static_cast<Control*>(mapped);
  }

  // Whether the call is to fail; errno is set then.
  [[nodiscard]] bool fails(Operation operation, std::string_view path) const {
    if (control_ == nullptr || !path.starts_with(folder_)) {
      return false;
    }
    ++control_->seen_of[static_cast<std::size_t>(operation)];
    const std::int64_t number = control_->seen++;
    if (number < control_->first || number >= control_->last) {
      return false;
    }
    ++control_->failed_of[static_cast<std::size_t>(operation)];
    errno = static_cast<int>(control_->error);
    return true;
  }

  [[nodiscard]] bool fails(Operation operation, int descriptor) const {
    if (control_ == nullptr) {
      return false;
    }
    const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
    std::array<char, PATH_MAX> path{};
    const ssize_t size = ::readlink(link.c_str(), path.data(), path.size());
    return size > 0 && fails(operation, std::string_view(path.data(), size));
  }

  // Opening to write fails where it makes a file, and on a disk that can only be read.
  [[nodiscard]] bool fails_to_open(std::string_view path, int flags) const {
    if (control_ == nullptr || (flags & (o_write | o_read_write | o_create)) == 0) {
      return false;
    }
    const bool makes = (flags & o_create) != 0 && ::access(std::string(path).c_str(), F_OK) != 0;
    return (makes || control_->error == EROFS) && fails(Operation::create, path);
  }

  [[nodiscard]] bool torn() const { return control_->torn != 0; }

 private:
  std::string folder_;
  Control* control_ = nullptr;
};

const Disk& disk() {
  static const Disk disk;
  return disk;
}

template <typename Function>
Function next(const char* name) {
  // The one way in which dlsym() gives functions.
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));  // NOLINT(*-reinterpret-cast)
}

using Open = int (*)(const char*, int, mode_t);
using OpenAt = int (*)(int, const char*, int, mode_t);
using Write = ssize_t (*)(int, const void*, std::size_t);
using WriteAt = ssize_t (*)(int, const void*, std::size_t, off_t);
using Synchronize = int (*)(int);
using Truncate = int (*)(int, off_t);
using Rename = int (*)(const char*, const char*);
using MakeFolder = int (*)(const char*, mode_t);

int open_with(Open real, const char* path, int flags, mode_t mode) {
  return disk().fails_to_open(path, flags) ? -1 : real(path, flags, mode);
}

int open_at_with(OpenAt real, int folder, const char* path, int flags, mode_t mode) {
  return disk().fails_to_open(path, flags) ? -1 : real(folder, path, flags, mode);
}

ssize_t write_at_with(WriteAt real, int descriptor, const void* data, std::size_t size, off_t at) {
  if (!disk().fails(Operation::write, descriptor)) {
    return real(descriptor, data, size, at);
  }
  if (const int error = errno; disk().torn()) {
    real(descriptor, data, size / 2, at);
    errno = error;
  }
  return -1;
}

int truncate_with(Truncate real, int descriptor, off_t size) {
  return disk().fails(Operation::truncate, descriptor) ? -1 : real(descriptor, size);
}

}  // namespace

// Defined under names of ours: what the C library's headers say of them is theirs.
extern "C" {
int open_hook(const char* path, int flags, mode_t mode) asm("open");
int open64_hook(const char* path, int flags, mode_t mode) asm("open64");
int openat_hook(int folder, const char* path, int flags, mode_t mode) asm("openat");
int openat64_hook(int folder, const char* path, int flags, mode_t mode) asm("openat64");
ssize_t write_hook(int descriptor, const void* data, std::size_t size) asm("write");
ssize_t pwrite_hook(int descriptor, const void* data, std::size_t size, off_t at) asm("pwrite");
ssize_t pwrite64_hook(int descriptor, const void* data, std::size_t size, off_t at) asm("pwrite64");
int fsync_hook(int descriptor) asm("fsync");
int fdatasync_hook(int descriptor) asm("fdatasync");
int ftruncate_hook(int descriptor, off_t size) asm("ftruncate");
int ftruncate64_hook(int descriptor, off_t size) asm("ftruncate64");
int rename_hook(const char* from, const char* to) asm("rename");
int mkdir_hook(const char* path, mode_t mode) asm("mkdir");
}

int open_hook(const char* path, int flags, mode_t mode) {
  static const auto real = next<Open>("open");
  return open_with(real, path, flags, mode);
}

int open64_hook(const char* path, int flags, mode_t mode) {
  static const auto real = next<Open>("open64");
  return open_with(real, path, flags, mode);
}

int openat_hook(int folder, const char* path, int flags, mode_t mode) {
  static const auto real = next<OpenAt>("openat");
  return open_at_with(real, folder, path, flags, mode);
}

int openat64_hook(int folder, const char* path, int flags, mode_t mode) {
  static const auto real = next<OpenAt>("openat64");
  return open_at_with(real, folder, path, flags, mode);
}

ssize_t write_hook(int descriptor, const void* data, std::size_t size) {
  static const auto real = next<Write>("write");
  if (!disk().fails(Operation::write, descriptor)) {
    return real(descriptor, data, size);
  }
  if (const int error = errno; disk().torn()) {
    real(descriptor, data, size / 2);
    errno = error;
  }
  return -1;
}

ssize_t pwrite_hook(int descriptor, const void* data, std::size_t size, off_t at) {
  static const auto real = next<WriteAt>("pwrite");
  return write_at_with(real, descriptor, data, size, at);
}

ssize_t pwrite64_hook(int descriptor, const void* data, std::size_t size, off_t at) {
  static const auto real = next<WriteAt>("pwrite64");
  return write_at_with(real, descriptor, data, size, at);
}

int fsync_hook(int descriptor) {
  static const auto real = next<Synchronize>("fsync");
  return disk().fails(Operation::synchronize, descriptor) ? -1 : real(descriptor);
}

int fdatasync_hook(int descriptor) {
  static const auto real = next<Synchronize>("fdatasync");
  return disk().fails(Operation::synchronize, descriptor) ? -1 : real(descriptor);
}

int ftruncate_hook(int descriptor, off_t size) {
  static const auto real = next<Truncate>("ftruncate");
  return truncate_with(real, descriptor, size);
}

int ftruncate64_hook(int descriptor, off_t size) {
  static const auto real = next<Truncate>("ftruncate64");
  return truncate_with(real, descriptor, size);
}

int rename_hook(const char* from, const char* to) {
  static const auto real = next<Rename>("rename");
  return disk().fails(Operation::rename, to) ? -1 : real(from, to);
}

int mkdir_hook(const char* path, mode_t mode) {
  static const auto real = next<MakeFolder>("mkdir");
  return disk().fails(Operation::make_folder, path) ? -1 : real(path, mode);
}
