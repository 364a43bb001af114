#pragma once

#include <exception>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

namespace pipelined::weights {

// Threads that share one piece of work. The first that fails stops the others, by way of the stop
// source, which the caller may use for the same; the work looks at it. A worker that ends with
// Cancelled has not failed.
//
// The work must be safe to run in several threads, and outlive the workers. The destructor stops
// and waits.
class Workers {
 public:
  // `work` is what each thread does, `ended` what it calls after that, also where it failed.
  // Throws IoError where not even one thread can be started; fewer than asked for are enough.
  Workers(unsigned threads, std::stop_source stop, std::function<void()> work,
          std::function<void()> ended);
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;
  Workers(Workers&&) = delete;
  Workers& operator=(Workers&&) = delete;
  ~Workers();

  // Makes the failure of somebody else count as that of a worker.
  void fail(std::exception_ptr failure) noexcept;
  // Waits until all have ended.
  void join() noexcept;
  // After join(): throws the first failure; Cancelled where there is none but the source was
  // stopped.
  void rethrow() const;

  // As many as are of use for reading from disks and caches on this machine, and not more than
  // there are pieces of work.
  [[nodiscard]] static unsigned count_for(std::size_t pieces) noexcept;

 private:
  void run() noexcept;

  std::stop_source stop_;
  std::function<void()> work_;
  std::function<void()> ended_;
  std::mutex mutex_;
  std::exception_ptr failure_;
  std::vector<std::thread> threads_;
};

}  // namespace pipelined::weights
