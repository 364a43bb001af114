#include "weights/population.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <new>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "weights/errors.hpp"
#include "weights/one_process.hpp"
#include "weights/signals_blocked.hpp"

namespace pipelined::weights {

// What the threads share. Each holds a reference, because a thread still runs for an instant after
// it has announced its end.
class Population::Work {
 public:
  Work(const File& file, const Mapping& mapping, std::uint64_t begin,
       std::shared_ptr<Progress> progress)
      : file_(file),
        mapping_(mapping),
        begin_(begin),
        end_(begin + progress->total_bytes()),
        progress_(std::move(progress)),
        next_(begin / Mapping::page_bytes() * Mapping::page_bytes()) {}

  // True for the first caller only.
  bool claim() noexcept {
    pid_t nobody = 0;
    return owner_.compare_exchange_strong(nobody, ::getpid());
  }
  void enter() noexcept {
    const std::scoped_lock lock(mutex_);
    ++running_;
  }
  void leave() noexcept {
    const std::scoped_lock lock(mutex_);
    --running_;
    changed_.notify_all();
  }
  void run() noexcept;
  void cancel() noexcept { cancelled_.store(true); }
  void wait_until_ended() noexcept;
  void wait_beyond(std::uint64_t bytes, std::chrono::milliseconds longest);
  bool is_running();

  [[nodiscard]] bool is_cancelled() const noexcept { return cancelled_.load(); }
  // The process that the threads are in; 0 before they are started. In another process, the lock
  // may be held by a thread that it does not have.
  [[nodiscard]] pid_t owner() const noexcept { return owner_.load(); }
  [[nodiscard]] bool is_here() const noexcept { return owner() == ::getpid(); }

 private:
  int read_ahead(std::uint64_t offset, std::size_t length, std::vector<std::byte>& scratch) const;

  const File& file_;
  const Mapping& mapping_;
  std::uint64_t begin_;
  std::uint64_t end_;
  std::shared_ptr<Progress> progress_;
  std::atomic<bool> cancelled_{false};
  std::atomic<std::uint64_t> next_;
  std::atomic<pid_t> owner_{0};
  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned running_ = 0;
};

namespace {

unsigned threads_for(std::uint64_t bytes) noexcept {
  const std::uint64_t steps = (bytes + Population::step_bytes - 1) / Population::step_bytes;
  const unsigned cores = std::max(std::thread::hardware_concurrency(), 1U);
  return static_cast<unsigned>(std::min<std::uint64_t>({steps, cores, Population::max_threads}));
}

}  // namespace

int Population::Work::read_ahead(std::uint64_t offset, std::size_t length,
                                 std::vector<std::byte>& scratch) const {
  try {
    scratch.resize(step_bytes);
    file_.read_exactly(std::span(scratch).first(length), offset);
    return 0;
  } catch (const IoError& error) {
    return error.code();
  } catch (const TruncatedFile&) {
    return EFAULT;
  } catch (const std::bad_alloc&) {
    return ENOMEM;
  }
}

void Population::Work::run() noexcept {
  std::vector<std::byte> scratch;
  while (!cancelled_.load()) {
    const std::uint64_t offset = next_.fetch_add(step_bytes);
    if (offset >= end_) {
      break;
    }
    const auto length =
        static_cast<std::size_t>(std::min<std::uint64_t>(step_bytes, end_ - offset));
    int code = mapping_.populate(offset, length);
    if (code == EINVAL) {
      // An old kernel cannot. Then have the bytes in the page cache at least, by reading them:
      // touching the mapping is out of the question.
      code = read_ahead(offset, length, scratch);
    }
    if (code != 0) {
      progress_->fail(code);
      cancelled_.store(true);
      break;
    }
    {
      const std::scoped_lock lock(mutex_);
      progress_->add(offset + length - std::max(offset, begin_));
    }
    changed_.notify_all();
  }
  // The last access to the file and the mapping lies before this line.
  leave();
}

void Population::Work::wait_until_ended() noexcept {
  if (is_here()) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return running_ == 0; });
  }
}

void Population::Work::wait_beyond(std::uint64_t bytes, std::chrono::milliseconds longest) {
  if (is_here()) {
    std::unique_lock lock(mutex_);
    static_cast<void>(changed_.wait_for(
        lock, longest, [&] { return running_ == 0 || progress_->loaded_bytes() > bytes; }));
  }
}

bool Population::Work::is_running() {
  if (!is_here()) {
    return false;
  }
  const std::scoped_lock lock(mutex_);
  return running_ != 0;
}

// Its lock and condition are left alone in a forked process, where other threads seem to use them.
Population::Population(const File& file, const Mapping& mapping, std::uint64_t begin,
                       std::uint64_t bytes, Source source)
    : source_(source),
      progress_(std::make_shared<Progress>(bytes)),
      work_(for_this_process(std::make_unique<Work>(file, mapping, begin, progress_))) {}

Population::~Population() { stop(); }

void Population::cancel() noexcept { work_->cancel(); }

void Population::stop() noexcept {
  work_->cancel();
  work_->wait_until_ended();
}

void Population::wait_beyond(std::uint64_t bytes, std::chrono::milliseconds longest) const {
  work_->wait_beyond(bytes, longest);
}

bool Population::is_running() const { return work_->is_running(); }

bool Population::was_cancelled() const noexcept {
  return work_->is_cancelled() && !progress_->finished() && progress_->error() == 0;
}

bool Population::was_left_behind() const noexcept {
  return work_->owner() != 0 && !work_->is_here() && !progress_->finished() &&
         progress_->error() == 0;
}

void Population::start() {
  if (!work_->claim()) {
    return;
  }
  const std::uint64_t bytes = progress_->total_bytes();
  if (bytes == 0 || source_ == Source::page_cache) {
    progress_->add(bytes);
    return;
  }
  const unsigned threads = threads_for(bytes);
  const SignalsBlocked signals_blocked;
  for (unsigned index = 0; index < threads; ++index) {
    work_->enter();
    try {
      // Detached, and waited for by a counter: a forked child inherits the counter but no threads,
      // and could neither join nor detach them.
      std::thread([work = work_] { work->run(); }).detach();
    } catch (const std::system_error& error) {
      work_->leave();
      if (index == 0) {
        progress_->fail(error.code().value());
      }
      return;
    }
  }
}

}  // namespace pipelined::weights
