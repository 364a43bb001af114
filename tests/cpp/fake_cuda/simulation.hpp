#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>

#include "contexts.hpp"
#include "control.h"
#include "device_memory.hpp"
#include "failures.hpp"
#include "findings.hpp"
#include "pinned_memory.hpp"
#include "registry.hpp"
#include "streams.hpp"
#include "weights/cuda/driver_types.hpp"

namespace fake_cuda {

struct Event {
  cuda::Context context = nullptr;
  bool timed = false;
  // Of the last record; nothing before the first.
  std::shared_ptr<Completion> recorded;
};

// How busy one direction of the link between host and device is.
struct Link {
  Clock::time_point free_at;
  std::uint64_t copies = 0;
  std::uint64_t bytes = 0;
};

// The whole of the fake driver's state; one per process, and never destroyed. The members without a
// lock of their own are guarded by the mutex.
class Simulation {
 public:
  Simulation();
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;
  Simulation(Simulation&&) = delete;
  Simulation& operator=(Simulation&&) = delete;
  ~Simulation() = delete;

  void configure(const fake_configuration& wanted);
  [[nodiscard]] std::string leaks() const;
  void forget();
  void reset();
  // The process ends: what comes later is refused.
  void end();

  // A misuse of the interface: remembers it and returns the result.
  cuda::Result refuse(const char* call, const std::string& why,
                      cuda::Result result = cuda::Result::invalid_value) {
    findings.add(call, why);
    return result;
  }
  // What those return that see an error of earlier work.
  [[nodiscard]] cuda::Result state_of_device() const {
    return broken.value_or(cuda::Result::success);
  }

  std::mutex mutex;
  std::condition_variable changed;
  // The process that initialised the driver; 0 before.
  std::atomic<pid_t> owner{0};
  std::atomic<bool> gone{false};
  fake_configuration configuration{};
  Findings findings;
  Failures failures;
  DeviceMemory memory{findings};
  PinnedMemory pinned{findings};
  Contexts contexts;
  Registry<cuda::Stream, Stream> streams;
  Registry<cuda::Event, Event> events;
  // The error that an operation ended with; none of the later ones is done.
  std::optional<cuda::Result> broken;
  std::uint64_t copies_until_failure = 0;
  cuda::Result copy_failure = cuda::Result::success;
  Link to_device;
  Link to_host;
  std::uint64_t pageable_copies = 0;
  Streams engine;

 private:
  Clock::time_point perform(Lock& lock, const Transfer& transfer, bool& copying,
                            Clock::time_point ready);
};

Simulation& simulation();

enum class Needs : std::uint8_t { nothing, initialisation, context };
enum class Kind : std::uint8_t { ordinary, gives_back };

// What all of the driver's functions begin with. The body gets the lock.
template <typename Body>
cuda::Result call(const char* name, Needs needs, Kind kind, Body body) noexcept {
  Simulation& state = simulation();
  if (state.gone.load()) {
    return cuda::Result::deinitialized;
  }
  const pid_t owner = state.owner.load();
  if (owner != 0 && owner != ::getpid()) {
    // Forked: somebody may have held the mutex, and the threads are gone.
    return cuda::Result::not_initialized;
  }
  try {
    Lock lock(state.mutex);
    const std::optional<cuda::Result> injected = state.failures.count(name);
    if (injected && kind == Kind::ordinary) {
      return *injected;
    }
    if (needs != Needs::nothing && owner == 0) {
      return state.refuse(name, "cuInit was not called", cuda::Result::not_initialized);
    }
    if (needs == Needs::context && state.contexts.current() == nullptr) {
      return state.refuse(name, "no context is current, or it is destroyed",
                          cuda::Result::invalid_context);
    }
    const cuda::Result result = body(lock);
    return injected.value_or(result);
  } catch (const std::bad_alloc&) {
    return cuda::Result::out_of_memory;
  }
}

}  // namespace fake_cuda
