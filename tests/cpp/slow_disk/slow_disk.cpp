// A disk of a known speed, for measurements: preloaded (LD_PRELOAD), it makes reads at an offset
// take as long as a disk of SLOW_DISK_RATE bytes per second would need for them, all threads
// together. Without the variable reads are as fast as they are.

#include <dlfcn.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

double rate() {
  static const double value = [] {
    const char* const text = std::getenv("SLOW_DISK_RATE");  // NOLINT(concurrency-mt-unsafe)
    return text == nullptr ? 0 : std::strtod(text, nullptr);
  }();
  return value;
}

// Waits for the disk to have delivered so many more bytes.
void deliver(ssize_t bytes) {
  if (bytes <= 0 || rate() <= 0) {
    return;
  }
  static std::mutex mutex;
  static Clock::time_point free_at{};
  Clock::time_point done;
  {
    const std::scoped_lock lock(mutex);
    const auto needed = std::chrono::duration<double>(static_cast<double>(bytes) / rate());
    free_at = std::max(free_at, Clock::now()) + std::chrono::duration_cast<Clock::duration>(needed);
    done = free_at;
  }
  std::this_thread::sleep_until(done);
}

template <typename Function>
Function next(const char* name) {
  // The one way in which dlsym() gives functions.
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));  // NOLINT(*-reinterpret-cast)
}

}  // namespace

extern "C" ssize_t pread(int descriptor, void* buffer, std::size_t size, off_t offset) {
  static const auto real = next<decltype(&::pread)>("pread");
  const ssize_t count = real(descriptor, buffer, size, offset);
  deliver(count);
  return count;
}

extern "C" ssize_t preadv(int descriptor, const iovec* vectors, int count, off_t offset) {
  static const auto real = next<decltype(&::preadv)>("preadv");
  const ssize_t bytes = real(descriptor, vectors, count, offset);
  deliver(bytes);
  return bytes;
}
