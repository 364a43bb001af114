#include "weights/cuda/device_checkpoint.hpp"

#include <system_error>
#include <utility>

#include "weights/cuda/transfer.hpp"
#include "weights/errors.hpp"
#include "weights/one_process.hpp"
#include "weights/signals_blocked.hpp"

namespace pipelined::weights::cuda {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<PlannedFile> planned(std::span<const CheckpointFile> files) {
  std::vector<PlannedFile> result;
  result.reserve(files.size());
  for (const CheckpointFile& file : files) {
    result.push_back({.header = file.header.get(), .data_begin = file.data_begin});
  }
  return result;
}

}  // namespace

std::shared_ptr<DeviceCheckpoint> DeviceCheckpoint::start(const LoadingDevice& device,
                                                          std::vector<CheckpointFile> files,
                                                          const Options& options) {
  auto checkpoint =
      for_this_process(std::make_unique<DeviceCheckpoint>(device, std::move(files), options));
  const SignalsBlocked signals_blocked;
  try {
    // Without a reference: the destructor waits for the thread.
    checkpoint->loader_ = std::thread(
        [loading = checkpoint.get(), stop = checkpoint->stop_] { loading->load(stop); });
  } catch (const std::system_error& error) {
    throw IoError("start a thread for", "loading", error.code().value());
  }
  return checkpoint;
}

DeviceCheckpoint::DeviceCheckpoint(LoadingDevice device, std::vector<CheckpointFile> files,
                                   Options options)
    : device_(std::move(device)), files_(std::move(files)), options_(options) {
  const std::vector<PlannedFile> plan = planned(files_);
  layout_ = lay_out(plan);
  const CurrentContext current(*device_.context);
  // Not in an initialiser: it needs the context.
  // NOLINTNEXTLINE(cppcoreguidelines-prefer-member-initializer)
  device_bytes_ = DeviceArena::rounded(*device_.context, layout_.arena_bytes);
  // Before the plan is made: a hostile file can be sparse and of any size.
  if (device_bytes_ > device_.memory->total()) {
    throw OverBudget("device memory", device_bytes_, device_.memory->total());
  }
  chunks_ = cut(plan, layout_, chunk_bytes_for(device_.ring->slab_bytes()));
  modified_.resize(chunks_.size());
  source_ = std::make_unique<FileSource>(files_, options_.mode);
  progress_ = std::make_unique<LoadProgress>(files_, chunks_);
  arena_ = std::make_unique<DeviceArena>(device_.context, device_bytes_);
  base_ = arena_->base();
  stats_.tensor_bytes = progress_->total_bytes();
  stats_.chunks = chunks_.size();
}

DeviceCheckpoint::~DeviceCheckpoint() {
  {
    const std::scoped_lock lock(mutex_);
    static_cast<void>(stop_.request_stop());
  }
  if (loader_.joinable()) {
    loader_.join();
  }
  if (arena_ != nullptr && arena_->mapped_bytes() != 0) {
    // Kernels that read a tensor may run for longer than the tensor lives; unmapping does not wait.
    const CurrentContextIfPossible current(*device_.context);
    static_cast<void>(device_.context->driver().ctx_synchronize.attempt());
  }
}

void DeviceCheckpoint::load(const std::stop_source& stop) noexcept {
  const Clock::time_point started = Clock::now();
  try {
    const CurrentContext current(*device_.context);
    allocate(stop.get_token());
    OwnEvent loaded(*device_.context);
    const auto end = [this] {
      const std::scoped_lock lock(mutex_);
      loaded_.reset();
    };
    {
      const std::scoped_lock lock(mutex_);
      loaded_ = std::move(loaded);
    }
    try {
      Transfer{.context = *device_.context,
               .ring = *device_.ring,
               .source = *source_,
               .chunks = chunks_,
               .base = base_,
               .enqueued =
                   [this](Stream stream) {
                     source_->check_unchanged();
                     loaded_->record(stream);
                     set_state(State::enqueued);
                   },
               .arrived =
                   [this](const Chunk& chunk) {
                     const std::scoped_lock lock(mutex_);
                     progress_->arrived(chunk);
                     changed_.notify_all();
                   }}
          .run(stop);
    } catch (...) {
      end();
      throw;
    }
    end();
    const std::scoped_lock lock(mutex_);
    stats_.load_seconds = seconds_since(started);
  } catch (...) {
    fail(std::current_exception());
    return;
  }
  set_state(State::awake);
}

void DeviceCheckpoint::fail(std::exception_ptr failure) noexcept {
  // Once a stream may have been told to wait, there may be tensors: they keep their memory.
  if (state() == State::loading) {
    arena_ = nullptr;
    reservation_ = {};
  }
  const std::scoped_lock lock(mutex_);
  stats_.resident_bytes = arena_ == nullptr ? 0 : device_bytes_;
  failure_ = std::move(failure);
  state_ = State::failed;
  stoppable_ = false;
  changed_.notify_all();
}

void DeviceCheckpoint::allocate(const std::stop_token& stop) {
  if (options_.wait_for_memory) {
    reservation_ = device_.memory->reserve(device_bytes_, stop);
  } else {
    std::optional<Budget::Reservation> reservation = device_.memory->try_reserve(device_bytes_);
    if (!reservation) {
      throw OverBudget("device memory", device_bytes_,
                       device_.memory->total() - device_.memory->used());
    }
    reservation_ = *std::move(reservation);
  }
  try {
    arena_->map();
  } catch (...) {
    deallocate();
    throw;
  }
  const std::scoped_lock lock(mutex_);
  stats_.resident_bytes = device_bytes_;
}

void DeviceCheckpoint::deallocate() noexcept {
  arena_->unmap();
  reservation_ = {};
  const std::scoped_lock lock(mutex_);
  stats_.resident_bytes = 0;
}

void DeviceCheckpoint::set_state(State state) {
  const std::scoped_lock lock(mutex_);
  state_ = state;
  // What was asked for while it was loading is done, but for copies that nothing could recall.
  stoppable_ = false;
  changed_.notify_all();
}

DeviceCheckpoint::State DeviceCheckpoint::state() const {
  const std::scoped_lock lock(mutex_);
  return state_;
}

void DeviceCheckpoint::wait_beyond(State last) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return state_ > last; });
  if (state_ == State::failed) {
    std::rethrow_exception(failure_);
  }
}

void DeviceCheckpoint::wait_enqueued() { wait_beyond(State::loading); }

void DeviceCheckpoint::wait() { wait_beyond(State::enqueued); }

DeviceCheckpoint::Status DeviceCheckpoint::wait_for_news(const Status& seen,
                                                         std::chrono::milliseconds longest) {
  std::unique_lock lock(mutex_);
  static_cast<void>(changed_.wait_for(lock, longest, [&] {
    return state_ != seen.state || progress_->loaded_bytes() != seen.loaded_bytes;
  }));
  return {.state = state_,
          .loaded_bytes = progress_->loaded_bytes(),
          .total_bytes = progress_->total_bytes(),
          .loaded_tensors = progress_->loaded_tensors(),
          .total_tensors = progress_->total_tensors()};
}

void DeviceCheckpoint::cancel() {
  const std::scoped_lock lock(mutex_);
  if (stoppable_) {
    static_cast<void>(stop_.request_stop());
  }
}

void DeviceCheckpoint::make_wait(Stream stream) {
  wait_enqueued();
  const CurrentContext current(*device_.context);
  const std::scoped_lock lock(mutex_);
  if (state_ == State::asleep) {
    throw Asleep();
  }
  // Without the event there is nothing to wait for any longer.
  if (loaded_) {
    device_.context->driver().stream_wait_event(stream, loaded_->handle(), 0);
  }
}

std::stop_source DeviceCheckpoint::begin_transition() {
  const std::scoped_lock lock(mutex_);
  stop_ = std::stop_source();
  stoppable_ = true;
  return stop_;
}

SavedChunks DeviceCheckpoint::differing(bool unmodified, const std::stop_source& stop) const {
  std::vector<Chunk> suspects;
  for (std::size_t index = 0; index < chunks_.size(); ++index) {
    if (!unmodified || modified_[index]) {
      suspects.push_back(chunks_[index]);
    }
  }
  source_->check_unchanged();
  SavedChunks saved = Comparison{.context = *device_.context,
                                 .ring = *device_.ring,
                                 .source = *source_,
                                 .chunks = suspects,
                                 .base = base_}
                          .changed(stop);
  source_->check_unchanged();
  return saved;
}

void DeviceCheckpoint::sleep(bool unmodified) {
  const std::scoped_lock transition(transition_);
  wait();
  if (state() == State::asleep) {
    return;
  }
  const Clock::time_point started = Clock::now();
  const std::stop_source stop = begin_transition();
  const CurrentContext current(*device_.context);
  device_.context->driver().ctx_synchronize();
  saved_ = differing(unmodified, stop);
  for (std::size_t index = 0; index < chunks_.size(); ++index) {
    modified_[index] = saved_.contains(chunks_[index].arena_offset);
  }
  deallocate();
  {
    const std::scoped_lock lock(mutex_);
    stats_.saved_bytes = 0;
    for (const auto& [offset, bytes] : saved_) {
      stats_.saved_bytes += bytes.size();
    }
    stats_.sleep_seconds = seconds_since(started);
  }
  set_state(State::asleep);
}

void DeviceCheckpoint::wake() {
  const std::scoped_lock transition(transition_);
  wait();
  if (state() != State::asleep) {
    return;
  }
  const Clock::time_point started = Clock::now();
  const std::stop_source stop = begin_transition();
  source_->check_unchanged();
  const CurrentContext current(*device_.context);
  allocate(stop.get_token());
  try {
    const OverlaidSource source(*source_, saved_);
    Transfer{.context = *device_.context,
             .ring = *device_.ring,
             .source = source,
             .chunks = chunks_,
             .base = base_,
             .enqueued = [&](Stream) { source.check_unchanged(); },
             .arrived = {}}
        .run(stop);
  } catch (...) {
    deallocate();
    throw;
  }
  saved_.clear();
  {
    const std::scoped_lock lock(mutex_);
    stats_.saved_bytes = 0;
    stats_.wake_seconds = seconds_since(started);
  }
  set_state(State::awake);
}

DevicePointer DeviceCheckpoint::address(std::size_t file, std::size_t tensor) const noexcept {
  const bool empty = files_[file].header->tensors()[tensor].bytes() == 0;
  return empty ? 0 : base_ + layout_.places[file][tensor];
}

void DeviceCheckpoint::read_back(std::size_t file, std::size_t tensor,
                                 std::span<std::byte> buffer) {
  const std::scoped_lock transition(transition_);
  wait();
  if (state() == State::asleep) {
    throw Asleep();
  }
  if (!buffer.empty()) {
    const CurrentContext current(*device_.context);
    device_.context->driver().memcpy_dtoh(buffer.data(), address(file, tensor), buffer.size());
  }
}

DeviceCheckpoint::Stats DeviceCheckpoint::stats() const {
  const std::scoped_lock lock(mutex_);
  Stats stats = stats_;
  stats.state = state_;
  stats.read = source_->stats();
  return stats;
}

}  // namespace pipelined::weights::cuda
