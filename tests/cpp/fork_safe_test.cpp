#include "weights/fork_safe.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "testing.hpp"

namespace pipelined::weights {
namespace {

struct Counted {
  std::shared_ptr<int> pointer = nullptr;
  int count = 0;
  bool flag = false;

  [[nodiscard]] Counted interrupted() const { return {.pointer = {}, .count = -1, .flag = flag}; }
};

// Whether it is true in a process that is forked now. One that hangs is ended by a signal.
bool in_child(const std::function<bool()>& body) {
  const pid_t child = ::fork();
  if (child == 0) {
    // Python's handler would only take note.
    static_cast<void>(std::signal(SIGALRM, SIG_DFL));
    ::alarm(60);
    ::_exit(body() ? 0 : 1);
  }
  int status = -1;
  return ::waitpid(child, &status, 0) == child && status == 0;
}

UNIT_TEST(threads_change_it_one_at_a_time) {
  const ForkSafe<Counted> safe(Counted{});
  {
    const auto count = [&safe] {
      for (int round = 0; round < 10'000; ++round) {
        ++safe.lock()->count;
      }
    };
    const std::jthread first(count);
    const std::jthread second(count);
  }
  CHECK_EQUAL(safe.lock()->count, 20'000);
}

UNIT_TEST(a_forked_process_goes_on_with_a_copy) {
  const ForkSafe<Counted> safe(Counted{.pointer = std::make_shared<int>(7), .count = 3});
  CHECK(in_child([&safe] {
    ++safe.lock()->count;
    const auto access = safe.lock();
    return access->count == 4 && *access->pointer == 7;
  }));
  CHECK_EQUAL(safe.lock()->count, 3);
}

UNIT_TEST(a_fork_in_the_middle_of_a_change_does_not_wait_for_its_end) {
  const ForkSafe<Counted> safe(Counted{.pointer = std::make_shared<int>(7), .count = 3});
  std::atomic<bool> inside{false};
  std::atomic<bool> leave{false};
  const std::jthread other([&] {
    const auto access = safe.lock();
    access->flag = true;
    inside = true;
    inside.notify_all();
    leave.wait(false);
  });
  inside.wait(false);
  const bool right = in_child([&safe] {
    const auto access = safe.lock();
    return access->pointer == nullptr && access->count == -1 && access->flag;
  });
  // And so does a child of the child, though the middle of the change is its grandparent's.
  const bool right_again = in_child([&safe] {
    safe.lock()->count = 5;
    return in_child([&safe] { return safe.lock()->count == 5; });
  });
  leave = true;
  leave.notify_all();
  CHECK(right);
  CHECK(right_again);
}

UNIT_TEST(threads_of_a_forked_process_share_one_copy) {
  const ForkSafe<Counted> safe(Counted{.count = 100});
  CHECK(in_child([&safe] {
    {
      const auto count = [&safe] { ++safe.lock()->count; };
      std::vector<std::jthread> threads;
      threads.reserve(8);
      for (int thread = 0; thread < 8; ++thread) {
        threads.emplace_back(count);
      }
    }
    return safe.lock()->count == 108;
  }));
}

UNIT_TEST(what_it_holds_is_destroyed_with_it_in_either_process) {
  std::weak_ptr<int> weak;
  {
    auto pointer = std::make_shared<int>(7);
    weak = pointer;
    auto safe = std::make_unique<ForkSafe<Counted>>(Counted{.pointer = std::move(pointer)});
    CHECK(in_child([&] {
      const bool alive = *safe->lock()->pointer == 7;
      safe.reset();
      return alive && weak.expired();
    }));
    CHECK(!weak.expired());
  }
  CHECK(weak.expired());
}

}  // namespace
}  // namespace pipelined::weights
