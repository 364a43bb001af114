#include "weights/cuda/transfer.hpp"

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "weights/cuda/stream.hpp"
#include "weights/errors.hpp"
#include "weights/workers.hpp"

namespace pipelined::weights::cuda {
namespace {

class Pipeline {
 public:
  Pipeline(const Transfer& transfer, std::stop_source stop)
      : transfer_(transfer), stop_(std::move(stop)), stream_(transfer.context) {}

  void run();

 private:
  // A slab from which a copy was asked for.
  struct Copy {
    const Chunk* chunk;
    PinnedRing::Lease slab;
    OwnEvent event;
    // Until then the event says nothing about the copy.
    bool recorded = false;
  };

  void read();
  [[nodiscard]] bool wait_for_turn();
  void copy(const Chunk& chunk, const std::byte* begin, PinnedRing::Lease slab);
  OwnEvent idle_event();
  void collect();
  void settle() noexcept;

  const Transfer& transfer_;
  std::stop_source stop_;
  OwnStream stream_;
  std::atomic<std::size_t> next_{0};

  std::mutex mutex_;
  std::condition_variable_any changed_;
  // In the order of the stream. Only collect() and settle() take away, and only at the front.
  std::deque<Copy> copies_;
  std::vector<OwnEvent> idle_events_;
  std::size_t enqueued_ = 0;
  unsigned readers_ = 0;
  std::size_t most_copies_ = 0;
};

void Pipeline::run() {
  readers_ = Workers::count_for(transfer_.chunks.size());
  most_copies_ = readers_ + 2;
  Workers workers(
      readers_, stop_, [this] { read(); },
      [this] {
        const std::scoped_lock lock(mutex_);
        --readers_;
        changed_.notify_all();
      });
  try {
    collect();
  } catch (...) {
    workers.fail(std::current_exception());
  }
  workers.join();
  if (!copies_.empty()) {
    settle();
  }
  if (enqueued_ != transfer_.chunks.size() || stop_.stop_requested()) {
    workers.rethrow();
  }
}

void Pipeline::read() {
  const CurrentContext current(transfer_.context);
  while (!stop_.stop_requested()) {
    const std::size_t index = next_.fetch_add(1);
    if (index >= transfer_.chunks.size()) {
      break;
    }
    if (!wait_for_turn()) {
      break;
    }
    const Chunk& chunk = transfer_.chunks[index];
    PinnedRing::Lease slab = transfer_.ring.acquire(stop_.get_token());
    const std::byte* const begin = transfer_.source.read(chunk, slab.bytes());
    copy(chunk, begin, std::move(slab));
  }
}

// Where the link is slower than the disk, reading further ahead than this would gain nothing, and
// pin all that the budget allows.
bool Pipeline::wait_for_turn() {
  std::unique_lock lock(mutex_);
  return changed_.wait(lock, stop_.get_token(), [this] { return copies_.size() < most_copies_; });
}

void Pipeline::copy(const Chunk& chunk, const std::byte* begin, PinnedRing::Lease slab) {
  {
    const std::scoped_lock lock(mutex_);
    OwnEvent event = idle_event();
    copies_.push_back({&chunk, std::move(slab), std::move(event)});
    Copy& copy = copies_.back();
    transfer_.context.driver().memcpy_htod_async(transfer_.base + chunk.arena_offset, begin,
                                                 chunk.bytes, stream_.handle());
    copy.event.record(stream_.handle());
    copy.recorded = true;
    changed_.notify_all();
    if (++enqueued_ != transfer_.chunks.size()) {
      return;
    }
  }
  if (transfer_.enqueued) {
    transfer_.enqueued(stream_.handle());
  }
}

OwnEvent Pipeline::idle_event() {
  if (idle_events_.empty()) {
    return OwnEvent(transfer_.context);
  }
  OwnEvent event = std::move(idle_events_.back());
  idle_events_.pop_back();
  return event;
}

void Pipeline::collect() {
  const auto has_copy = [this] { return !copies_.empty() && copies_.front().recorded; };
  for (;;) {
    const Copy* copy = nullptr;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, stop_.get_token(), [&] { return has_copy() || readers_ == 0; });
      if (stop_.stop_requested() || !has_copy()) {
        return;
      }
      copy = &copies_.front();
    }
    copy->event.synchronize();
    if (transfer_.arrived) {
      transfer_.arrived(*copy->chunk);
    }
    const std::scoped_lock lock(mutex_);
    idle_events_.push_back(std::move(copies_.front().event));
    copies_.pop_front();
    changed_.notify_all();
  }
}

void Pipeline::settle() noexcept {
  if (!stream_.settle()) {
    // The device is broken. Slabs that it may still read are not for others to fill.
    for (Copy& copy : copies_) {
      copy.slab.discard();
    }
  }
  copies_.clear();
}

}  // namespace

void Transfer::run(const std::stop_source& stop) const {
  if (chunks.empty()) {
    if (enqueued) {
      const CurrentContext current(context);
      const OwnStream stream(context);
      enqueued(stream.handle());
    }
    return;
  }
  const CurrentContext current(context);
  Pipeline(*this, stop).run();
}

}  // namespace pipelined::weights::cuda
