#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "weights/file.hpp"
#include "weights/mapping.hpp"
#include "weights/progress.hpp"

namespace pipelined::weights {

// Where the bytes of a file were when it was opened.
enum class Source : std::uint8_t { disk, page_cache, unknown };

// Reads a range of a mapping into memory ahead of whoever uses it: a few threads take steps of
// step_bytes from one counter, so that the range is filled from front to back, which is also the
// order in which models are loaded. On a machine with two cores this was the fastest of all ways to
// read a cold file, O_DIRECT included.
//
// Of a file that is in the page cache nothing is read and no thread is started: mapping its pages
// is cheaper where they are touched than from another thread (0.06 s against 0.13 s for 1.7 GB on
// that machine, from the call to the last page touched).
//
// Nothing depends on it: bytes that are not there yet are read when they are touched. Hence a
// failure (recorded in the progress) is not an error of the load.
//
// The file and the mapping must outlive the population. Its destructor stops it. In a process that
// was forked while the threads ran there are none to wait for. Thread-safe.
class Population {
 public:
  static constexpr std::size_t step_bytes = std::size_t{2} << 20U;
  static constexpr unsigned max_threads = 4;

  // Starts no thread.
  Population(const File& file, const Mapping& mapping, std::uint64_t begin, std::uint64_t bytes,
             Source source);
  Population(const Population&) = delete;
  Population& operator=(const Population&) = delete;
  Population(Population&&) = delete;
  Population& operator=(Population&&) = delete;
  ~Population();

  // Starts the threads; the second call and all that follow do nothing.
  void start();
  // Tells the threads to stop.
  void cancel() noexcept;
  // Tells them to stop and waits until they have: nothing of it touches the mapping afterwards.
  void stop() noexcept;

  // Waits until more bytes are there than so many, or it has ended, but no longer than so long.
  void wait_beyond(std::uint64_t bytes, std::chrono::milliseconds longest) const;

  // Whether threads of this process are at work.
  [[nodiscard]] bool is_running() const;
  // Whether it was told to stop before everything was there.
  [[nodiscard]] bool was_cancelled() const noexcept;
  // Whether it was started in another process, which this one was forked from, and did not end.
  [[nodiscard]] bool was_left_behind() const noexcept;
  [[nodiscard]] const std::shared_ptr<Progress>& progress() const noexcept { return progress_; }

 private:
  class Work;

  Source source_;
  std::shared_ptr<Progress> progress_;
  std::shared_ptr<Work> work_;
};

}  // namespace pipelined::weights
