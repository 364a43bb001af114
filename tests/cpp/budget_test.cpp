#include "weights/budget.hpp"

#include <atomic>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>
#include <vector>

#include "testing.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights {
namespace {

UNIT_TEST(counts_what_is_held) {
  const auto budget = Budget::create("memory", 10);
  {
    const auto first = budget->try_reserve(6);
    CHECK(first.has_value());
    CHECK(!budget->try_reserve(5).has_value());
    const auto second = budget->try_reserve(4);
    CHECK(second.has_value());
    CHECK_EQUAL(budget->used(), 10);
  }
  CHECK_EQUAL(budget->used(), 0);
  CHECK_EQUAL(budget->peak(), 10);
}

UNIT_TEST(moved_reservations_count_once) {
  const auto budget = Budget::create("memory", 10);
  Budget::Reservation first = budget->reserve(3, {});
  Budget::Reservation second = budget->reserve(4, {});
  second = std::move(first);
  first = {};
  CHECK_EQUAL(budget->used(), 3);
  second = {};
  CHECK_EQUAL(budget->used(), 0);
}

UNIT_TEST(what_never_fits_is_refused_at_once) {
  const auto budget = Budget::create("memory", 10);
  CHECK_THROWS(OverBudget, budget->reserve(11, {}));
  CHECK_EQUAL(budget->used(), 0);
}

UNIT_TEST(waits_until_there_is_enough) {
  const auto budget = Budget::create("memory", 10);
  std::optional<Budget::Reservation> held = budget->try_reserve(10);
  std::atomic<bool> released{false};
  std::atomic<bool> early{false};
  {
    const std::jthread waiter([&] {
      const Budget::Reservation mine = budget->reserve(4, {});
      early = !released;
    });
    released = true;
    held.reset();
  }
  CHECK(!early);
  CHECK_EQUAL(budget->used(), 0);
}

UNIT_TEST(who_waits_can_be_stopped) {
  const auto budget = Budget::create("memory", 10);
  const auto held = budget->try_reserve(10);
  std::stop_source stop;
  std::atomic<bool> cancelled{false};
  {
    const std::jthread waiter([&] {
      try {
        const Budget::Reservation mine = budget->reserve(1, stop.get_token());
      } catch (const Cancelled&) {
        cancelled = true;
      }
    });
    stop.request_stop();
  }
  CHECK(cancelled);
  CHECK_EQUAL(budget->used(), 10);
}

UNIT_TEST(is_never_exceeded) {
  const auto budget = Budget::create("memory", 10);
  {
    std::vector<std::jthread> threads;
    threads.reserve(6);
    for (unsigned index = 0; index < 6; ++index) {
      threads.emplace_back([&, index] {
        for (unsigned round = 0; round < 300; ++round) {
          const Budget::Reservation mine = budget->reserve(1 + (index + round) % 10, {});
        }
      });
    }
  }
  CHECK_EQUAL(budget->used(), 0);
  CHECK(budget->peak() <= 10);
}

}  // namespace
}  // namespace pipelined::weights
