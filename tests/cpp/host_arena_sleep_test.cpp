#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

#include "files.hpp"
#include "testing.hpp"
#include "weights/errors.hpp"
#include "weights/host_arena.hpp"
#include "weights/mapping.hpp"

namespace pipelined::weights {
namespace {

using testing::numbered;
using testing::write_file;
using testing::write_zeros;
using State = HostArena::State;

constexpr std::size_t mib = std::size_t{1} << 20U;
constexpr std::chrono::milliseconds long_enough{60'000};

void wait(HostArena& arena) {
  HostArena::Status status = arena.wait_for_news(0, long_enough);
  while (status.state == State::loading) {
    status = arena.wait_for_news(status.loaded_bytes, long_enough);
  }
}

// A file whose tensors begin in the middle of a page, all of it touched.
struct Touched {
  explicit Touched(const testing::Context& context)
      : content(numbered(2 * mib)),
        path(context.directory / "f"),
        arena(File::open(write_file(path, content)), begin) {
    arena.populate();
    CHECK(is_intact());
  }

  [[nodiscard]] bool is_intact() const {
    return std::memcmp(arena.at(0), content.data() + begin, content.size() - begin) == 0;
  }
  void write(std::size_t offset) {
    arena.at(offset)[0] = std::byte{0xAB};
    content[begin + offset] = static_cast<char>(0xAB);
  }

  static constexpr std::size_t begin = 77;
  std::string content;
  std::filesystem::path path;
  HostArena arena;
};

UNIT_TEST(gives_back_what_is_the_files_and_has_it_again) {
  Touched touched(context);
  HostArena& arena = touched.arena;
  CHECK_EQUAL(arena.stats().resident_bytes, 2 * mib);
  arena.sleep();
  CHECK(arena.stats().state == State::asleep);
  CHECK_EQUAL(arena.stats().resident_bytes, 0);
  CHECK_EQUAL(arena.stats().copied_bytes, 0);
  arena.wake();
  wait(arena);
  CHECK(arena.stats().state == State::awake);
  CHECK(touched.is_intact());
  CHECK_EQUAL(arena.stats().resident_bytes, 2 * mib);
}

UNIT_TEST(what_was_written_stays_and_its_neighbours_go) {
  Touched touched(context);
  const std::size_t page = Mapping::page_bytes();
  // The first and the last byte of a page, and the two pages that a page's end is between.
  for (const std::size_t offset : {3 * page - Touched::begin, 5 * page - Touched::begin - 1,
                                   9 * page - Touched::begin - 1, 9 * page - Touched::begin}) {
    touched.write(offset);
  }
  touched.arena.sleep();
  CHECK_EQUAL(touched.arena.stats().resident_bytes, 4 * page);
  CHECK_EQUAL(touched.arena.stats().copied_bytes, 4 * page);
  touched.arena.wake();
  CHECK(touched.is_intact());
}

UNIT_TEST(asleep_it_can_be_used_and_sent_to_sleep_again) {
  Touched touched(context);
  touched.arena.sleep();
  CHECK(touched.is_intact());
  CHECK_EQUAL(touched.arena.stats().resident_bytes, 2 * mib);
  touched.write(mib);
  touched.arena.sleep();
  CHECK_EQUAL(touched.arena.stats().resident_bytes, Mapping::page_bytes());
  CHECK(touched.is_intact());
  CHECK(touched.arena.stats().state == State::asleep);
}

UNIT_TEST(a_file_that_changed_is_kept_in_memory) {
  Touched touched(context);
  std::filesystem::resize_file(touched.path, 2 * mib + 1);
  CHECK_THROWS(FileChanged, touched.arena.sleep());
  CHECK(touched.arena.stats().state == State::awake);
  CHECK_EQUAL(touched.arena.stats().resident_bytes, 2 * mib);
  CHECK(touched.is_intact());
}

UNIT_TEST(what_cannot_be_given_back_leaves_it_as_it_was) {
  for (const bool populate : {false, true}) {
    const std::string path = write_zeros(context.directory / "f", 2 * mib);
    HostArena arena(File::open(path), 8);
    if (populate) {
      arena.populate();
      wait(arena);
    }
    CHECK(arena.at(8)[0] == std::byte{0});
    // Of what is locked into memory the kernel gives nothing back.
    CHECK_EQUAL(::mlock2(arena.at(0), 100, MLOCK_ONFAULT), 0);
    CHECK_THROWS(IoError, arena.sleep());
    CHECK(arena.state() == State::awake);
    arena.check();
    // What sanitizers make of munlock() does nothing. NOLINTNEXTLINE(*-vararg)
    CHECK_EQUAL(::syscall(SYS_munlock, arena.at(0), 100), 0);
    arena.sleep();
    CHECK(arena.state() == State::asleep);
  }
}

UNIT_TEST(a_file_that_changed_in_its_sleep_does_not_wake) {
  Touched touched(context);
  touched.arena.sleep();
  const auto modified = std::filesystem::last_write_time(touched.path);
  std::filesystem::last_write_time(touched.path, modified + std::chrono::seconds(1));
  CHECK_THROWS(FileChanged, touched.arena.wake());
  CHECK(touched.arena.stats().state == State::asleep);
  std::filesystem::last_write_time(touched.path, modified);
  touched.arena.wake();
  CHECK(touched.is_intact());
}

UNIT_TEST(sleeping_ends_what_reads_ahead_and_waking_begins_anew) {
  HostArena arena(File::open(write_zeros(context.directory / "f", 256 * mib)), 8);
  for (int round = 0; round < 5; ++round) {
    arena.populate();
    arena.sleep();
    CHECK(arena.stats().state == State::asleep);
    CHECK_EQUAL(arena.stats().resident_bytes, 0);
    // Nothing brings anything back while it is asleep.
    arena.populate();
    CHECK(arena.wait_for_news(0, long_enough).state == State::asleep);
    CHECK_EQUAL(arena.stats().resident_bytes, 0);
    arena.wake();
  }
  wait(arena);
  arena.check();
  CHECK_EQUAL(arena.wait_for_news(0, {}).loaded_bytes, 256 * mib - 8);
}

UNIT_TEST(what_nobody_asked_for_is_not_read_after_waking) {
  HostArena arena(File::open(write_zeros(context.directory / "f", 64 * mib)), 8);
  arena.sleep();
  arena.wake();
  CHECK(arena.wait_for_news(0, long_enough).state == State::awake);
  CHECK_EQUAL(arena.stats().read_bytes, 0);
  CHECK_EQUAL(arena.stats().resident_bytes, 0);
}

UNIT_TEST(a_load_that_is_cancelled_says_so_until_it_has_slept) {
  HostArena arena(File::open(write_zeros(context.directory / "f", 1024 * mib)), 8);
  arena.check();
  arena.populate();
  arena.cancel();
  wait(arena);
  CHECK(arena.stats().state == State::failed);
  CHECK_THROWS(Cancelled, arena.check());
  arena.sleep();
  arena.check();
  arena.wake();
  wait(arena);
  CHECK(arena.stats().state == State::awake);
  // There is nothing left to cancel.
  arena.cancel();
  arena.check();
}

UNIT_TEST(a_file_cut_short_is_named_by_who_waits) {
  HostArena arena(File::open(write_zeros(context.directory / "f", 64 * mib)), 8);
  std::filesystem::resize_file(context.directory / "f", mib);
  arena.populate();
  wait(arena);
  CHECK_THROWS(FileChanged, arena.check());
}

UNIT_TEST(threads_read_while_others_send_it_to_sleep_and_wake_it) {
  Touched touched(context);
  touched.write(12345);
  std::atomic<bool> wrong{false};
  {
    const auto read = [&] {
      for (int round = 0; round < 20; ++round) {
        wrong = wrong || !touched.is_intact();
      }
    };
    const auto sleep = [&] {
      for (int round = 0; round < 50; ++round) {
        touched.arena.sleep();
        touched.arena.wake();
        static_cast<void>(touched.arena.stats());
      }
    };
    const std::jthread first(read);
    const std::jthread second(sleep);
    const std::jthread third(sleep);
  }
  CHECK(!wrong);
  CHECK(touched.is_intact());
}

UNIT_TEST(a_forked_process_sleeps_for_itself) {
  Touched touched(context);
  touched.write(40'000);
  const std::size_t page = Mapping::page_bytes();
  const pid_t child = ::fork();
  if (child == 0) {
    touched.write(80'000);
    touched.arena.sleep();
    const bool slept = touched.arena.stats().resident_bytes == 2 * page;
    touched.arena.wake();
    ::_exit(slept && touched.is_intact() ? 0 : 1);
  }
  int status = 0;
  CHECK_EQUAL(::waitpid(child, &status, 0), child);
  CHECK_EQUAL(status, 0);
  CHECK_EQUAL(touched.arena.stats().copied_bytes, page);
  CHECK(touched.is_intact());
}

UNIT_TEST(a_process_that_is_forked_while_a_thread_is_in_a_call_has_it_all) {
  Touched touched(context);
  touched.write(40'000);
  std::atomic<bool> enough{false};
  int wrong = 0;
  {
    const std::jthread other([&] {
      while (!enough) {
        touched.arena.sleep();
        touched.arena.wake();
      }
    });
    for (int round = 0; round < 100 && wrong == 0; ++round) {
      const pid_t child = ::fork();
      if (child == 0) {
        // Instead of waiting for ever for a thread that is not here. Python's handler takes no
        // action.
        static_cast<void>(std::signal(SIGALRM, SIG_DFL));
        ::alarm(60);
        touched.arena.sleep();
        const bool slept = touched.arena.stats().resident_bytes == Mapping::page_bytes();
        touched.arena.wake();
        wait(touched.arena);
        ::_exit(slept && touched.is_intact() ? 0 : 1);
      }
      int status = -1;
      wrong += ::waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
    }
    enough = true;
  }
  CHECK_EQUAL(wrong, 0);
}

UNIT_TEST(a_forked_process_reads_on_by_itself) {
  HostArena arena(File::open(write_zeros(context.directory / "f", 512 * mib)), 8);
  arena.populate();
  const pid_t child = ::fork();
  if (child == 0) {
    wait(arena);
    arena.sleep();
    arena.wake();
    wait(arena);
    ::_exit(arena.wait_for_news(0, {}).loaded_bytes == 512 * mib - 8 ? 0 : 1);
  }
  int status = 0;
  CHECK_EQUAL(::waitpid(child, &status, 0), child);
  CHECK_EQUAL(status, 0);
  wait(arena);
}

}  // namespace
}  // namespace pipelined::weights
