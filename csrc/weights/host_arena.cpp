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
      course_(Course{.population = new_population(source_)}),
      progress_(course_.lock()->population->progress()) {}

bool HostArena::untouched(std::uint64_t offset, std::uint64_t bytes) const {
  return bytes == 0 || PageMap().untouched({at(offset), bytes});
}

HostArena::State HostArena::state() const { return course()->state(); }

void HostArena::populate() {
  const auto course = this->course();
  if (course->asleep) {
    return;
  }
  if (!course->wanted) {
    course->wanted = true;
    course->loaded = Clock::now();
  }
  start(*course);
}

void HostArena::cancel() {
  const auto course = this->course();
  if (course->state() == State::loading) {
    course->population->cancel();
  }
}

void HostArena::sleep() {
  const auto course = this->course();
  const Clock::time_point started = Clock::now();
  check_unchanged();
  // Otherwise what is given back here would be mapped again there.
  const bool failed = course->state() == State::failed;
  // One that was never started is kept: it can be, yet.
  if (course->wanted) {
    course->population->stop();
  }
  try {
    give_back();
  } catch (...) {
    if (!failed && course->population->was_cancelled()) {
      course->population = new_population(source_);
      start(*course);
    }
    throw;
  }
  if (!course->asleep) {
    course->read_bytes += loaded_bytes(*course->population->progress());
    if (course->wanted) {
      course->population = new_population(source_);
    }
  }
  course->asleep = true;
  course->sleep_seconds = seconds(Clock::now() - started);
}

void HostArena::wake() {
  const auto course = this->course();
  if (!course->asleep) {
    return;
  }
  check_unchanged();
  if (course->wanted) {
    course->population = new_population(probe(file_, mapping_));
  }
  course->asleep = false;
  course->woken = Clock::now();
  start(*course);
}

HostArena::Status HostArena::wait_for_news(std::uint64_t bytes, std::chrono::milliseconds longest) {
  std::shared_ptr<Population> population;
  {
    const auto course = this->course();
    start(*course);
    population = course->population;
  }
  // Without the lock: sleep() and wake() need not wait for those who wait.
  population->wait_beyond(bytes, longest);
  return course()->status();
}

void HostArena::check() const {
  const auto course = this->course();
  if (course->state() != State::failed) {
    return;
  }
  const int error = course->population->progress()->error();
  if (error == 0) {
    throw Cancelled();
  }
  check_unchanged();
  throw IoError("read", file_.path(), error);
}

HostArena::Stats HostArena::stats() const {
  const auto course = this->course();
  const std::uint64_t bytes = progress_->total_bytes();
  Stats stats{.state = course->state(), .tensor_bytes = bytes};
  if (bytes != 0) {
    for (const PageRun& run : PageMap().runs({at(0), bytes})) {
      stats.resident_bytes +=
          run.kind == PageKind::file || run.kind == PageKind::copy ? run.bytes : 0;
      stats.copied_bytes += is_copy(run.kind) ? run.bytes : 0;
    }
  }
  stats.steps = (bytes + Population::step_bytes - 1) / Population::step_bytes;
  stats.read_bytes = course->read_bytes + loaded_bytes(*course->population->progress());
  stats.load_seconds = seconds_until_finished(course->loaded, *progress_);
  stats.sleep_seconds = course->sleep_seconds;
  stats.wake_seconds = seconds_until_finished(course->woken, *course->population->progress());
  return stats;
}

HostArena::Course HostArena::Course::interrupted() const {
  return {.wanted = wanted, .asleep = asleep};
}

HostArena::State HostArena::Course::state() const {
  if (asleep) {
    return State::asleep;
  }
  if (population->progress()->error() != 0 || population->was_cancelled()) {
    return State::failed;
  }
  return population->is_running() ? State::loading : State::awake;
}

HostArena::Status HostArena::Course::status() const {
  return {.state = state(), .loaded_bytes = loaded_bytes(*population->progress())};
}

ForkSafe<HostArena::Course>::Access HostArena::course() const {
  auto course = course_.lock();
  if (course->population == nullptr) {
    course->population = new_population(source_);
  }
  return course;
}

void HostArena::start(Course& course) const {
  if (course.asleep || !course.wanted) {
    return;
  }
  if (course.population->was_left_behind()) {
    course.population = new_population(source_);
  }
  course.population->start();
}

std::shared_ptr<Population> HostArena::new_population(Source source) const {
  return std::make_shared<Population>(file_, mapping_, data_begin_, file_.size() - data_begin_,
                                      source);
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
