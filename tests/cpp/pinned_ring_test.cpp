#include "weights/cuda/pinned_ring.hpp"

#include <atomic>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fake_driver.hpp"
#include "testing.hpp"
#include "weights/cuda/context.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights::cuda {
namespace {

using testing::FakeDriver;

constexpr std::size_t slab_bytes = 65536;

struct Rings {
  explicit Rings(const FakeDriver& fake, std::size_t slabs)
      : context(std::make_shared<const PrimaryContext>(fake.driver, 0)),
        budget(Budget::create("pinned memory", slabs * slab_bytes + slab_bytes / 2)),
        ring(context, slab_bytes, budget) {}

  std::shared_ptr<const PrimaryContext> context;
  std::shared_ptr<Budget> budget;
  PinnedRing ring;
};

UNIT_TEST(pins_no_more_than_its_budget_and_that_once) {
  const FakeDriver fake(context);
  {
    Rings rings(fake, 3);
    for (int round = 0; round < 2; ++round) {
      std::vector<PinnedRing::Lease> leases;
      leases.reserve(3);
      for (int index = 0; index < 3; ++index) {
        leases.push_back(rings.ring.acquire({}));
      }
      CHECK_EQUAL(fake.statistics(FAKE_PINNED_BYTES), 3 * slab_bytes);
    }
    CHECK_EQUAL(fake.calls("cuMemHostAlloc"), 3);
    rings.ring.trim();
    CHECK_EQUAL(fake.statistics(FAKE_PINNED_BYTES), 0);
    CHECK_EQUAL(rings.budget->used(), 0);
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(who_finds_none_waits_for_one) {
  const FakeDriver fake(context);
  {
    Rings rings(fake, 1);
    std::atomic<bool> returned{false};
    std::atomic<bool> early{false};
    {
      std::jthread waiter;
      const PinnedRing::Lease held = rings.ring.acquire({});
      waiter = std::jthread([&] {
        const PinnedRing::Lease mine = rings.ring.acquire({});
        early = !returned;
      });
      returned = true;
    }
    CHECK(!early);
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(who_waits_can_be_stopped) {
  const FakeDriver fake(context);
  {
    Rings rings(fake, 1);
    const PinnedRing::Lease held = rings.ring.acquire({});
    std::stop_source stop;
    std::atomic<bool> cancelled{false};
    {
      const std::jthread waiter([&] {
        try {
          const PinnedRing::Lease mine = rings.ring.acquire(stop.get_token());
        } catch (const Cancelled&) {
          cancelled = true;
        }
      });
      stop.request_stop();
    }
    CHECK(cancelled);
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(a_failure_to_pin_does_not_strand_those_who_wait) {
  const FakeDriver fake(context);
  {
    Rings rings(fake, 1);
    fake.fail("cuMemHostAlloc", 1, 2, 3);
    std::atomic<int> failed{0};
    std::atomic<int> got{0};
    {
      std::vector<std::jthread> threads;
      threads.reserve(6);
      for (int index = 0; index < 6; ++index) {
        threads.emplace_back([&] {
          try {
            const PinnedRing::Lease mine = rings.ring.acquire({});
            ++got;
          } catch (const CudaError&) {
            ++failed;
          }
        });
      }
    }
    CHECK_EQUAL(failed.load(), 3);
    CHECK_EQUAL(got.load(), 3);
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(a_slab_that_is_discarded_is_freed) {
  const FakeDriver fake(context);
  {
    Rings rings(fake, 1);
    PinnedRing::Lease lease = rings.ring.acquire({});
    lease.discard();
    CHECK_EQUAL(fake.statistics(FAKE_PINNED_BYTES), 0);
    const PinnedRing::Lease next = rings.ring.acquire({});
    CHECK(next.bytes().data() != nullptr);
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

UNIT_TEST(a_budget_for_less_than_a_slab_is_refused) {
  const FakeDriver fake(context);
  {
    const auto primary = std::make_shared<const PrimaryContext>(fake.driver, 0);
    CHECK_THROWS(OverBudget,
                 PinnedRing(primary, slab_bytes, Budget::create("pinned memory", slab_bytes - 1)));
  }
  CHECK_EQUAL(std::string(fake.report()), "");
}

}  // namespace
}  // namespace pipelined::weights::cuda
