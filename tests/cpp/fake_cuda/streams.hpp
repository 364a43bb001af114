#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "weights/cuda/driver_types.hpp"

namespace fake_cuda {

namespace cuda = pipelined::weights::cuda;
using Clock = std::chrono::steady_clock;
using Lock = std::unique_lock<std::mutex>;

struct Stream;

// The end of an operation. `at` is when the hardware would have ended it; that it is done becomes
// known a little later, when the thread has woken up.
struct Completion {
  bool done = false;
  Clock::time_point at;
  std::weak_ptr<Stream> stream;
  std::uint64_t number = 0;
};

struct Transfer {
  enum class Kind : std::uint8_t { to_device, to_host, on_device, fill };

  Kind kind;
  std::size_t size = 0;
  // On the device; 0 for what it does not have.
  cuda::DevicePointer target = 0;
  cuda::DevicePointer source = 0;
  // On the host, be it the source or the target.
  std::byte* host = nullptr;
  unsigned char value = 0;
  int device = 0;
  bool pageable = false;
};

struct Operation {
  // Nothing for one that only marks its place.
  std::optional<Transfer> transfer;
  std::vector<std::shared_ptr<Completion>> after;
  Clock::time_point earliest;
  std::shared_ptr<Completion> completion;
  // Whether the bytes are being copied.
  bool copying = false;
};

struct Stream {
  cuda::Context context = nullptr;
  // The default stream of its context.
  bool is_default = false;
  // Whether it keeps order with the default stream.
  bool blocking = false;
  std::deque<Operation> queue;
  std::uint64_t last_number = 0;
  // Up to which operation somebody waits.
  std::uint64_t demanded = 0;
  std::shared_ptr<Completion> last;
  Clock::time_point free_at;
  bool retired = false;
  bool finished = false;
  std::thread thread;
};

// The threads that do what streams are asked for, in order, late. All members are called with the
// mutex held; waiting and copying release it for the while.
class Streams {
 public:
  struct Behaviour {
    std::chrono::microseconds late;
    bool lazy;
  };
  // Copies a transfer that is ready at some instant; returns when the hardware would be done. Has
  // to set `copying` before it releases the lock.
  using Perform = std::function<Clock::time_point(Lock&, const Transfer&, bool& copying,
                                                  Clock::time_point ready)>;

  Streams(std::mutex& mutex, std::condition_variable& changed, Perform perform)
      : mutex_(mutex), changed_(changed), perform_(std::move(perform)) {}

  void behave(const Behaviour& behaviour);
  void seed(std::uint64_t value) { random_.seed(value); }
  void hold(bool held);

  std::shared_ptr<Stream> create(cuda::Context context, bool is_default, bool blocking);
  // Its work is still done; then the thread ends.
  void retire(Stream& stream);
  std::shared_ptr<Completion> enqueue(const std::shared_ptr<Stream>& stream,
                                      std::optional<Transfer> transfer,
                                      std::shared_ptr<Completion> after);

  // Somebody asks whether it is done: lazy work begins.
  void demand(const Completion& completion);
  void wait(Lock& lock, const Completion& completion);
  // Waits for all streams, or those of one context.
  void drain(Lock& lock, cuda::Context context = nullptr);
  // The threads end after what they are at; what is queued is dropped.
  void shut_down(Lock& lock);

  // Whether a transfer that is not done yet fulfils a condition; if `copying`, one that has begun.
  [[nodiscard]] bool any(const std::function<bool(const Transfer&)>& condition,
                         bool copying = false) const;

 private:
  void run(const std::shared_ptr<Stream>& stream);
  [[nodiscard]] bool may_begin(const Stream& stream) const;
  void reap();

  std::mutex& mutex_;
  std::condition_variable& changed_;
  Perform perform_;
  Behaviour behaviour_{};
  std::mt19937_64 random_;
  bool held_ = false;
  bool stopping_ = false;
  // Also those that are destroyed and not yet finished.
  std::vector<std::shared_ptr<Stream>> streams_;
};

}  // namespace fake_cuda
