#include "weights/host_arena.hpp"

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>

#include "weights/errors.hpp"
#include "weights/page_map.hpp"

namespace pipelined::weights {
namespace {

Source probe(const File& file, const Mapping& mapping) noexcept {
  if (!file.shows_residency()) {
    return Source::unknown;
  }
  return mapping.sample_resident() ? Source::page_cache : Source::disk;
}

double seconds(Progress::Clock::duration duration) {
  return std::chrono::duration<double>(duration).count();
}

double seconds_until_finished(std::optional<Progress::Clock::time_point> began,
                              const Progress& progress) {
  const auto finished = progress.finished();
  return began && finished ? seconds(*finished - *began) : 0;
}

std::uint64_t loaded_bytes(const Progress& progress) {
  return std::min(progress.loaded_bytes(), progress.total_bytes());
}

}  // namespace

std::string_view source_name(Source source) noexcept {
  switch (source) {
    case Source::disk:
      return "disk";
    case Source::page_cache:
      return "page cache";
    case Source::unknown:
      break;
  }
  return "unknown";
}

HostArena::HostArena(File file, std::uint64_t data_begin)
    : file_(std::move(file)),
      mapping_(file_),
      data_begin_(data_begin),
      source_(probe(file_, mapping_)),
      population_(new_population(source_)),
      progress_(population_->progress()) {}

bool HostArena::untouched(std::uint64_t offset, std::uint64_t bytes) const {
  return bytes == 0 || PageMap().untouched({at(offset), bytes});
}

void HostArena::populate() {
  const std::scoped_lock lock(mutex_);
  if (!wanted_) {
    wanted_ = true;
    loaded_ = Clock::now();
  }
  start();
}

void HostArena::cancel() {
  const std::scoped_lock lock(mutex_);
  if (state() == State::loading) {
    population_->cancel();
  }
}

void HostArena::sleep() {
  const std::scoped_lock lock(mutex_);
  const Clock::time_point started = Clock::now();
  check_unchanged();
  // Otherwise what is given back here would be mapped again there.
  const bool loading = state() == State::loading;
  population_->stop();
  try {
    give_back();
  } catch (...) {
    if (loading) {
      population_ = new_population(source_);
      start();
    }
    throw;
  }
  if (!asleep_) {
    read_bytes_ += loaded_bytes(*population_->progress());
    population_ = new_population(source_);
  }
  asleep_ = true;
  sleep_seconds_ = seconds(Clock::now() - started);
}

void HostArena::wake() {
  const std::scoped_lock lock(mutex_);
  if (!asleep_) {
    return;
  }
  check_unchanged();
  population_ = new_population(probe(file_, mapping_));
  asleep_ = false;
  woken_ = Clock::now();
  start();
}

HostArena::Status HostArena::wait_for_news(std::uint64_t bytes, std::chrono::milliseconds longest) {
  std::shared_ptr<Population> population;
  {
    const std::scoped_lock lock(mutex_);
    start();
    population = population_;
  }
  // Without the lock: sleep() and wake() need not wait for those who wait.
  population->wait_beyond(bytes, longest);
  const std::scoped_lock lock(mutex_);
  return status();
}

void HostArena::check() const {
  const std::scoped_lock lock(mutex_);
  if (state() != State::failed) {
    return;
  }
  const int error = population_->progress()->error();
  if (error == 0) {
    throw Cancelled();
  }
  check_unchanged();
  throw IoError("read", file_.path(), error);
}

HostArena::Stats HostArena::stats() const {
  const std::scoped_lock lock(mutex_);
  const std::uint64_t bytes = progress_->total_bytes();
  Stats stats{.state = state(), .tensor_bytes = bytes};
  if (bytes != 0) {
    for (const PageRun& run : PageMap().runs({at(0), bytes})) {
      stats.resident_bytes +=
          run.kind == PageKind::file || run.kind == PageKind::copy ? run.bytes : 0;
      stats.copied_bytes += is_copy(run.kind) ? run.bytes : 0;
    }
  }
  stats.steps = (bytes + Population::step_bytes - 1) / Population::step_bytes;
  stats.read_bytes = read_bytes_ + loaded_bytes(*population_->progress());
  stats.load_seconds = seconds_until_finished(loaded_, *progress_);
  stats.sleep_seconds = sleep_seconds_;
  stats.wake_seconds = seconds_until_finished(woken_, *population_->progress());
  return stats;
}

std::shared_ptr<Population> HostArena::new_population(Source source) const {
  return std::make_shared<Population>(file_, mapping_, data_begin_, file_.size() - data_begin_,
                                      source);
}

void HostArena::start() {
  if (asleep_ || !wanted_) {
    return;
  }
  if (population_->was_left_behind()) {
    population_ = new_population(source_);
  }
  population_->start();
}

HostArena::State HostArena::state() const {
  if (asleep_) {
    return State::asleep;
  }
  if (population_->progress()->error() != 0 || population_->was_cancelled()) {
    return State::failed;
  }
  return population_->is_running() ? State::loading : State::awake;
}

HostArena::Status HostArena::status() const {
  return {.state = state(), .loaded_bytes = loaded_bytes(*population_->progress())};
}

void HostArena::check_unchanged() const {
  if (!file_.is_unchanged()) {
    throw FileChanged(file_.path(), "the file has changed since it was opened");
  }
}

void HostArena::give_back() const {
  const std::vector<PageRun> runs = PageMap().runs({mapping_.data(), mapping_.size()});
  for (const PageRun& run : runs) {
    if (run.kind == PageKind::file) {
      const auto offset = static_cast<std::size_t>(run.begin - mapping_.data());
      if (const int error = mapping_.give_back(offset, run.bytes); error != 0) {
        throw IoError("madvise", file_.path(), error);
      }
    }
  }
}

}  // namespace pipelined::weights
