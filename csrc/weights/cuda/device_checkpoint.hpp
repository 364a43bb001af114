#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "weights/checkpoint_file.hpp"
#include "weights/cuda/comparison.hpp"
#include "weights/cuda/device_arena.hpp"
#include "weights/cuda/loading_device.hpp"
#include "weights/cuda/stream.hpp"
#include "weights/file_source.hpp"
#include "weights/load_progress.hpp"
#include "weights/plan.hpp"

namespace pipelined::weights::cuda {

// One or several safetensors files in the memory of a device.
//
//   loading ──▶ enqueued ──▶ awake ⇄ asleep
//      └────────────┴──▶ failed
//
//   loading    files are being read and their bytes copied
//   enqueued   every byte was read and its copy asked for: a stream that waits for the load
//              (make_wait) may use the tensors; the host may not
//   awake      every byte is there
//   asleep     the addresses are kept and nothing is behind them; what differs from the files is in
//              host memory
//   failed     cancelled or broken; nothing is left of it but the error
//
// Whoever uses the memory holds a reference on it (std::shared_ptr). The files stay open, so that
// waking reads the bytes of the files that were opened and of no others. Thread-safe. In a process
// that was forked after start(), the object is of no use, and its destruction does nothing.
class DeviceCheckpoint {
 public:
  enum class State : std::uint8_t { loading, enqueued, awake, asleep, failed };

  struct Options {
    ReadMode mode = ReadMode::automatic;
    // Whether to wait where the budget of device memory is used up, for others to be put to sleep
    // or freed, instead of failing with OverBudget.
    bool wait_for_memory = false;
  };

  struct Status {
    State state = State::loading;
    std::uint64_t loaded_bytes = 0;
    std::uint64_t total_bytes = 0;
    std::size_t loaded_tensors = 0;
    std::size_t total_tensors = 0;
  };

  struct Stats {
    State state = State::loading;
    std::uint64_t tensor_bytes = 0;
    // Of physical memory, now.
    std::uint64_t resident_bytes = 0;
    // Of host memory that holds what differs from the files, while asleep.
    std::uint64_t saved_bytes = 0;
    std::size_t chunks = 0;
    SourceStats read;
    // What the last of each took; 0 before the first.
    double load_seconds = 0;
    double sleep_seconds = 0;
    double wake_seconds = 0;
  };

  // Begins to load files in threads. Throws IoError, OverBudget and CudaError; what happens later
  // is thrown by wait().
  static std::shared_ptr<DeviceCheckpoint> start(const LoadingDevice& device,
                                                 std::vector<CheckpointFile> files,
                                                 const Options& options);

  // For start() only, which then has the load begin.
  DeviceCheckpoint(LoadingDevice device, std::vector<CheckpointFile> files, Options options);
  DeviceCheckpoint(const DeviceCheckpoint&) = delete;
  DeviceCheckpoint& operator=(const DeviceCheckpoint&) = delete;
  DeviceCheckpoint(DeviceCheckpoint&&) = delete;
  DeviceCheckpoint& operator=(DeviceCheckpoint&&) = delete;
  // Cancels what is under way, waits for all work on the device, and frees the memory.
  ~DeviceCheckpoint();

  // Waits until the load has left the state `loading`, or also `enqueued`. Throws what it failed
  // with: CudaError, IoError, FileChanged, OverBudget or Cancelled.
  void wait_enqueued();
  void wait();
  // Waits until there is news beyond a status, but no longer than so long.
  [[nodiscard]] Status wait_for_news(const Status& seen, std::chrono::milliseconds longest);
  // Ends a load, sleep() or wake() under way with Cancelled; does nothing otherwise. Does not wait.
  void cancel();

  // Has a stream of the same device wait for the load's copies. Throws like wait_enqueued(), and
  // Asleep.
  void make_wait(Stream stream);

  // Gives the device memory back. What differs from the files is kept in host memory, which takes
  // a copy of everything to find out; with `unmodified`, the caller says that nothing was written
  // since the load or the last wake(), and it is taken at its word. Nothing happens to what is
  // asleep already. Throws FileChanged where the files could not restore the rest, CudaError,
  // IoError and Cancelled; then the memory is where it was.
  void sleep(bool unmodified);
  // Brings everything back to where it was. Nothing happens to what is awake. Throws as loading
  // does; it is then asleep as before.
  void wake();

  [[nodiscard]] std::span<const CheckpointFile> files() const noexcept { return files_; }
  // Of each file; may be kept.
  [[nodiscard]] const std::vector<std::shared_ptr<Progress>>& progress() const noexcept {
    return progress_->files();
  }
  [[nodiscard]] Source source(std::size_t file) const noexcept { return source_->source(file); }
  [[nodiscard]] int device() const noexcept { return device_.context->ordinal(); }
  // Null for a tensor without bytes. For ever the same, and of use where the state allows.
  [[nodiscard]] DevicePointer address(std::size_t file, std::size_t tensor) const noexcept;
  // A tensor's bytes as they are on the device. Waits for the load. Throws CudaError, or what the
  // load failed with; Asleep.
  void read_back(std::size_t file, std::size_t tensor, std::span<std::byte> buffer);
  [[nodiscard]] Stats stats() const;

 private:
  void load(const std::stop_source& stop) noexcept;
  void fail(std::exception_ptr failure) noexcept;
  void allocate(const std::stop_token& stop);
  void deallocate() noexcept;
  void set_state(State state);
  void wait_beyond(State last);
  [[nodiscard]] State state() const;
  [[nodiscard]] std::stop_source begin_transition();
  [[nodiscard]] SavedChunks differing(bool unmodified, const std::stop_source& stop) const;

  // Constant after construction, or thread-safe themselves.
  LoadingDevice device_;
  std::vector<CheckpointFile> files_;
  Options options_;
  Layout layout_;
  std::vector<Chunk> chunks_;
  std::unique_ptr<FileSource> source_;
  std::uint64_t device_bytes_ = 0;
  DevicePointer base_ = 0;

  // Of the loading thread until the load is over; then of whoever holds the lock.
  std::mutex transition_;
  std::unique_ptr<DeviceArena> arena_;
  Budget::Reservation reservation_;
  SavedChunks saved_;
  // Which chunks are known to differ from the files, asleep or awake.
  std::vector<bool> modified_;

  // Guards what follows, but for the thread.
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  State state_ = State::loading;
  std::exception_ptr failure_;
  // Of what is under way.
  std::stop_source stop_;
  bool stoppable_ = true;
  std::unique_ptr<LoadProgress> progress_;
  Stats stats_;
  // Comes after the load's copies; there while they are under way.
  std::optional<OwnEvent> loaded_;

  std::thread loader_;
};

}  // namespace pipelined::weights::cuda
