#include "simulation.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

namespace fake_cuda {
namespace {

using cuda::AccessFlags;
using cuda::Result;

constexpr int strict_exit = 86;

// When the link is done with a copy that could begin at `ready`. Counts from when the link was
// free, not from when a thread noticed, so that the rate is kept whatever the threads' delays.
Clock::time_point occupy(Link& link, Clock::time_point ready, std::size_t bytes, std::uint64_t rate,
                         std::uint64_t overhead) {
  const Clock::time_point start = std::max(ready, link.free_at);
  auto time = std::chrono::duration<double>(static_cast<double>(overhead) * 1e-9);
  if (rate > 0) {
    time += std::chrono::duration<double>(static_cast<double>(bytes) / static_cast<double>(rate));
  }
  link.free_at = start + std::chrono::duration_cast<Clock::duration>(time);
  return link.free_at;
}

void copy(const Transfer& transfer, const std::vector<Piece>& target,
          const std::vector<Piece>& source) {
  std::byte* host = transfer.host;
  switch (transfer.kind) {
    case Transfer::Kind::to_device:
      for (const Piece& piece : target) {
        std::memcpy(piece.data, host, piece.size);
        host += piece.size;
      }
      break;
    case Transfer::Kind::to_host:
      for (const Piece& piece : source) {
        std::memcpy(host, piece.data, piece.size);
        host += piece.size;
      }
      break;
    case Transfer::Kind::on_device: {
      // The pieces of both sides end at different places.
      std::vector<std::byte> bytes;
      for (const Piece& piece : source) {
        bytes.insert(bytes.end(), piece.data, piece.data + piece.size);
      }
      const std::byte* from = bytes.data();
      for (const Piece& piece : target) {
        std::memcpy(piece.data, from, piece.size);
        from += piece.size;
      }
      break;
    }
    case Transfer::Kind::fill:
      for (const Piece& piece : target) {
        std::memset(piece.data, transfer.value, piece.size);
      }
      break;
  }
}

}  // namespace

Simulation& simulation() {
  // Never destroyed: threads and destructors of others may call until the very end.
  static auto* const state = new Simulation();  // NOLINT(*-owning-memory)
  return *state;
}

Simulation::Simulation()
    : engine(mutex, changed,
             [this](Lock& lock, const Transfer& transfer, bool& copying, Clock::time_point ready) {
               return perform(lock, transfer, copying, ready);
             }) {
  fake_configuration wanted{};
  fake_defaults(&wanted);
  engine.seed(wanted.seed);
  configure(wanted);
}

void Simulation::configure(const fake_configuration& wanted) {
  if (wanted.seed != configuration.seed) {
    engine.seed(wanted.seed);
  }
  configuration = wanted;
  memory.limit({.device_bytes = wanted.device_bytes,
                .granularity = wanted.granularity,
                .devices = static_cast<int>(wanted.devices),
                .poison = wanted.poison != 0});
  pinned.limit(wanted.pinned_bytes);
  engine.behave(
      {.late = std::chrono::microseconds(wanted.late_microseconds), .lazy = wanted.lazy != 0});
}

Clock::time_point Simulation::perform(Lock& lock, const Transfer& transfer, bool& copying,
                                      Clock::time_point ready) {
  const bool reads_device =
      transfer.kind == Transfer::Kind::to_host || transfer.kind == Transfer::Kind::on_device;
  const bool writes_device = transfer.kind != Transfer::Kind::to_host;
  const bool uses_host = transfer.host != nullptr;
  if (broken) {
    return ready;
  }
  if (copies_until_failure > 0) {
    --copies_until_failure;
    if (copies_until_failure == 0) {
      broken = copy_failure;
      return ready;
    }
  }
  std::optional<std::vector<Piece>> target{std::in_place};
  std::optional<std::vector<Piece>> source{std::in_place};
  if (writes_device) {
    target = memory.find(transfer.target, transfer.size, transfer.device, AccessFlags::read_write);
  }
  if (reads_device) {
    source = memory.find(transfer.source, transfer.size, transfer.device, AccessFlags::read);
  }
  if (!target || !source) {
    findings.add("a copy", "the device memory was unmapped before the copy began");
    broken = Result::illegal_address;
    return ready;
  }
  if (uses_host && !transfer.pageable &&
      pinned.covers(transfer.host, transfer.size) != PinnedMemory::Coverage::all) {
    findings.add("a copy", "the pinned memory was given back before the copy began");
    broken = Result::illegal_address;
    return ready;
  }
  Clock::time_point end = ready;
  if (uses_host) {
    const bool to_the_device = transfer.kind == Transfer::Kind::to_device;
    Link& link = to_the_device ? to_device : to_host;
    std::uint64_t rate = to_the_device ? configuration.to_device_rate : configuration.to_host_rate;
    if (transfer.pageable && configuration.pageable_rate > 0) {
      rate = configuration.pageable_rate;
    }
    end = occupy(link, ready, transfer.size, rate, configuration.copy_nanoseconds);
    ++link.copies;
    link.bytes += transfer.size;
    pageable_copies += transfer.pageable ? 1 : 0;
  }
  copying = true;
  lock.unlock();
  copy(transfer, *target, *source);
  std::this_thread::sleep_until(end);
  lock.lock();
  return end;
}

std::string Simulation::leaks() const {
  std::string text = memory.leaks() + pinned.leaks();
  const auto line = [&text](std::size_t count, const char* what) {
    if (count > 0) {
      text += "still held: " + std::to_string(count) + " " + what + "\n";
    }
  };
  line(streams.size(), "streams");
  line(events.size(), "events");
  return text + contexts.leaks();
}

void Simulation::forget() {
  findings.clear();
  failures.clear();
  copies_until_failure = 0;
  memory.forget_peak();
  pinned.forget_peak();
  to_device = {.free_at = to_device.free_at};
  to_host = {.free_at = to_host.free_at};
  pageable_copies = 0;
}

void Simulation::reset() {
  Lock lock(mutex);
  engine.hold(false);
  engine.drain(lock);
  engine.shut_down(lock);
  streams.clear();
  events.clear();
  contexts.clear();
  memory.clear();
  pinned.clear();
  broken.reset();
  forget();
  fake_configuration wanted{};
  fake_defaults(&wanted);
  engine.seed(wanted.seed);
  configure(wanted);
  owner.store(0);
}

void Simulation::end() {
  if (owner.load() != 0 && owner.load() != ::getpid()) {
    return;
  }
  gone.store(true);
  std::string report;
  {
    Lock lock(mutex);
    engine.shut_down(lock);
    report = findings.text() + leaks();
  }
  if (report.empty()) {
    return;
  }
  static_cast<void>(std::fprintf(stderr, "The fake CUDA driver:\n%s", report.c_str()));
  const char* const strict = std::getenv("FAKE_CUDA_STRICT");  // NOLINT(concurrency-mt-unsafe)
  if (strict != nullptr && std::string_view(strict) == "1") {
    static_cast<void>(std::fflush(nullptr));
    std::_Exit(strict_exit);
  }
}

namespace {

// Runs when the process ends, as the library is never closed before.
[[gnu::destructor]] void at_exit() { simulation().end(); }

}  // namespace
}  // namespace fake_cuda
