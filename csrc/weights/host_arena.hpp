#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "weights/file.hpp"
#include "weights/fork_safe.hpp"
#include "weights/mapping.hpp"
#include "weights/population.hpp"
#include "weights/progress.hpp"

namespace pipelined::weights {

[[nodiscard]] std::string_view source_name(Source source) noexcept;

// The memory of one checkpoint on the CPU: the file, mapped copy-on-write, and the threads that
// read it ahead. Its bytes may be handed out at once; whoever uses them holds a reference on the
// arena (std::shared_ptr) for as long as he does. Address and size never change. Thread-safe.
//
//   loading ⇄ awake ⇄ asleep
//      └──▶ failed ───────┘
//
//   loading    threads read ahead
//   awake      they are done, or were never asked to begin
//   asleep     only what was written to is in memory, unless somebody touched more since
//   failed     they gave up, or were cancelled: what is not in memory is read when it is touched
//
// In each of them the bytes may be used, and are what they were. A process that is forked has them
// as they are then, and sleeps and wakes for itself, also where another thread was in a call at
// that instant: then it may take for never read what was being read.
class HostArena {
 public:
  enum class State : std::uint8_t { loading, awake, asleep, failed };

  struct Status {
    State state = State::awake;
    // Of what was begun last: the load, or a wake().
    std::uint64_t loaded_bytes = 0;
  };

  struct Stats {
    State state = State::awake;
    std::uint64_t tensor_bytes = 0;
    // Of physical memory that this process has mapped behind the tensors, in whole pages. What was
    // not written to is shared with the page cache.
    std::uint64_t resident_bytes = 0;
    // Of memory, or of the swap area, with what was written to: no sleep gives it back.
    std::uint64_t copied_bytes = 0;
    // Steps in which the file is read ahead.
    std::uint64_t steps = 0;
    std::uint64_t read_bytes = 0;
    // What the last of each took; 0 before it is over.
    double load_seconds = 0;
    double sleep_seconds = 0;
    double wake_seconds = 0;
  };

  // The tensors' bytes begin at data_begin. Throws IoError.
  HostArena(File file, std::uint64_t data_begin);

  // The address of a byte of the tensors. Writing through it changes this mapping only.
  [[nodiscard]] std::byte* at(std::uint64_t offset) const noexcept {
    return mapping_.data() + data_begin_ + offset;
  }
  // Of the first time that the file was read ahead; may be kept.
  [[nodiscard]] const std::shared_ptr<Progress>& progress() const noexcept { return progress_; }
  [[nodiscard]] const File& file() const noexcept { return file_; }
  // Where the tensors' bytes begin in the file.
  [[nodiscard]] std::uint64_t data_begin() const noexcept { return data_begin_; }
  [[nodiscard]] Source source() const noexcept { return source_; }

  // Whether no page of so many bytes of the tensors was written to. Neighbours share pages, so what
  // was written to them may count. Throws IoError where that cannot be told.
  [[nodiscard]] bool untouched(std::uint64_t offset, std::uint64_t bytes) const;

  [[nodiscard]] State state() const;
  // Begins to read everything into memory; does nothing where that has begun, and while asleep.
  void populate();
  // Ends reading ahead that is under way. Does not wait.
  void cancel();

  // Gives back all pages that are still the file's. One that was written to is the only copy of
  // what was written, and stays. Until this returns, nobody may write to a page that nobody has
  // written to before: it may be given back with what was written. Reading is harmless at any time.
  //
  // Throws FileChanged where the file could not bring the pages back, and IoError, also where the
  // kernel does not tell which pages were written to; nothing is lost then, and it is awake.
  // What is asleep already gives back what was touched since.
  void sleep();
  // Begins to read everything into memory again, if that was ever begun; returns at once. Does
  // nothing while awake. Throws FileChanged; it is asleep then.
  void wake();

  // Waits until the state is another than `loading` or more bytes are there than so many, but no
  // longer than so long.
  [[nodiscard]] Status wait_for_news(std::uint64_t bytes, std::chrono::milliseconds longest);
  // In the state `failed`, throws why: Cancelled, FileChanged or IoError.
  void check() const;
  // Throws IoError where the kernel does not tell what is in memory.
  [[nodiscard]] Stats stats() const;

 private:
  using Clock = Progress::Clock;

  // What calls change.
  struct Course {
    // None only where a fork has interrupted a change.
    std::shared_ptr<Population> population = nullptr;
    // Whether somebody asked for everything: if not, waking does not either.
    bool wanted = false;
    bool asleep = false;
    // When each began.
    std::optional<Clock::time_point> loaded = std::nullopt;
    std::optional<Clock::time_point> woken = std::nullopt;
    double sleep_seconds = 0;
    // By populations that are gone.
    std::uint64_t read_bytes = 0;

    [[nodiscard]] Course interrupted() const;
    [[nodiscard]] State state() const;
    [[nodiscard]] Status status() const;
  };

  [[nodiscard]] ForkSafe<Course>::Access course() const;
  void start(Course& course) const;
  [[nodiscard]] std::shared_ptr<Population> new_population(Source source) const;
  void check_unchanged() const;
  void give_back() const;

  // In this order: the population is stopped before the mapping goes, and that before the file.
  File file_;
  Mapping mapping_;
  std::uint64_t data_begin_;
  Source source_;
  ForkSafe<Course> course_;
  std::shared_ptr<Progress> progress_;
};

}  // namespace pipelined::weights
