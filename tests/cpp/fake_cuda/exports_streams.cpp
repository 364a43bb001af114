// Streams, events, and what streams are asked to copy.

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "exports.hpp"
#include "simulation.hpp"

namespace {

using fake_cuda::call;
using fake_cuda::Completion;
using fake_cuda::Kind;
using fake_cuda::Lock;
using fake_cuda::Needs;
using fake_cuda::PinnedMemory;
using fake_cuda::Simulation;
using fake_cuda::simulation;
using fake_cuda::Transfer;

// The stream of a handle, if it is one of the current context; null and a finding otherwise.
std::shared_ptr<fake_cuda::Stream> find_stream(const char* name, Stream handle) {
  Simulation& state = simulation();
  const Context current = state.contexts.current();
  if (handle == nullptr) {
    auto& stream = state.contexts.find(current)->default_stream;
    if (!stream) {
      stream = state.engine.create(current, true, false);
    }
    return stream;
  }
  auto stream = state.streams.find(handle);
  if (!stream) {
    state.findings.add(name, "this is no stream, or it is destroyed");
  } else if (stream->context != current) {
    state.findings.add(name, "the stream belongs to another context than the current one");
    return nullptr;
  }
  return stream;
}

std::shared_ptr<fake_cuda::Event> find_event(const char* name, Event handle) {
  auto event = simulation().events.find(handle);
  if (!event) {
    simulation().findings.add(name, "this is no event, or it is destroyed");
  }
  return event;
}

Result check_device_range(const char* name, DevicePointer pointer, std::size_t size, int device,
                          AccessFlags access) {
  Simulation& state = simulation();
  if (!state.memory.find(pointer, size, std::nullopt, AccessFlags::none)) {
    return state.refuse(name, "the range of device addresses is not mapped");
  }
  if (!state.memory.find(pointer, size, device, access)) {
    return state.refuse(name, "the device may not access the range: cuMemSetAccess is missing");
  }
  return Result::success;
}

Result transfer(Lock& lock, const char* name, Transfer wanted, Stream handle, bool wait) {
  Simulation& state = simulation();
  const auto stream = find_stream(name, handle);
  if (!stream) {
    return Result::invalid_handle;
  }
  if (state.broken) {
    return *state.broken;
  }
  if (wanted.size == 0) {
    return Result::success;
  }
  wanted.device = state.contexts.find(stream->context)->device;
  if (wanted.target != 0) {
    const Result result = check_device_range(name, wanted.target, wanted.size, wanted.device,
                                             AccessFlags::read_write);
    if (result != Result::success) {
      return result;
    }
  }
  if (wanted.source != 0) {
    const Result result =
        check_device_range(name, wanted.source, wanted.size, wanted.device, AccessFlags::read);
    if (result != Result::success) {
      return result;
    }
  }
  if (wanted.host != nullptr) {
    if (state.memory.is_reserved(reinterpret_cast<DevicePointer>(wanted.host))) {
      return state.refuse(name, "a device address was given for one of the host");
    }
    const PinnedMemory::Coverage coverage = state.pinned.covers(wanted.host, wanted.size);
    if (coverage == PinnedMemory::Coverage::part) {
      return state.refuse(name, "the range on the host is pinned only in part");
    }
    wanted.pageable = coverage == PinnedMemory::Coverage::none;
  }
  const auto completion = state.engine.enqueue(stream, wanted, nullptr);
  if (wait || wanted.pageable) {
    state.engine.wait(lock, *completion);
    return state.state_of_device();
  }
  return Result::success;
}

// Where the host is the source, nobody writes to it.
std::byte* bytes(const void* host) {
  return static_cast<std::byte*>(const_cast<void*>(host));  // NOLINT(*-const-cast)
}

// Asks an event or a stream whether its work is done.
Result query(const std::shared_ptr<Completion>& completion) {
  Simulation& state = simulation();
  if (completion && !completion->done) {
    state.engine.demand(*completion);
    return Result::not_ready;
  }
  return state.state_of_device();
}

Result synchronize(Lock& lock, const std::shared_ptr<Completion>& completion) {
  Simulation& state = simulation();
  if (completion) {
    state.engine.wait(lock, *completion);
  }
  return state.state_of_device();
}

}  // namespace

Result cuMemcpyHtoDAsync_v2(DevicePointer target, const void* source, std::size_t size,
                            Stream stream) {
  constexpr const char* name = "cuMemcpyHtoDAsync_v2";
  return call(name, Needs::context, Kind::ordinary, [&](Lock& lock) {
    return transfer(
        lock, name,
        {.kind = Transfer::Kind::to_device, .size = size, .target = target, .host = bytes(source)},
        stream, false);
  });
}

Result cuMemcpyDtoHAsync_v2(void* target, DevicePointer source, std::size_t size, Stream stream) {
  constexpr const char* name = "cuMemcpyDtoHAsync_v2";
  return call(name, Needs::context, Kind::ordinary, [&](Lock& lock) {
    return transfer(
        lock, name,
        {.kind = Transfer::Kind::to_host, .size = size, .source = source, .host = bytes(target)},
        stream, false);
  });
}

Result cuMemcpyDtoH_v2(void* target, DevicePointer source, std::size_t size) {
  constexpr const char* name = "cuMemcpyDtoH_v2";
  return call(name, Needs::context, Kind::ordinary, [&](Lock& lock) {
    return transfer(
        lock, name,
        {.kind = Transfer::Kind::to_host, .size = size, .source = source, .host = bytes(target)},
        nullptr, true);
  });
}

Result cuMemcpyDtoDAsync_v2(DevicePointer target, DevicePointer source, std::size_t size,
                            Stream stream) {
  constexpr const char* name = "cuMemcpyDtoDAsync_v2";
  return call(name, Needs::context, Kind::ordinary, [&](Lock& lock) {
    return transfer(
        lock, name,
        {.kind = Transfer::Kind::on_device, .size = size, .target = target, .source = source},
        stream, false);
  });
}

Result cuMemsetD8Async(DevicePointer target, unsigned char value, std::size_t size, Stream stream) {
  constexpr const char* name = "cuMemsetD8Async";
  return call(name, Needs::context, Kind::ordinary, [&](Lock& lock) {
    return transfer(lock, name,
                    {.kind = Transfer::Kind::fill, .size = size, .target = target, .value = value},
                    stream, false);
  });
}

Result cuStreamCreate(Stream* handle, unsigned flags) {
  return call("cuStreamCreate", Needs::context, Kind::ordinary, [&](Lock&) {
    Simulation& state = simulation();
    const bool blocking = (flags & stream_non_blocking) == 0;
    *handle = state.streams.add(state.engine.create(state.contexts.current(), false, blocking));
    return Result::success;
  });
}

Result cuStreamDestroy_v2(Stream handle) {
  constexpr const char* name = "cuStreamDestroy_v2";
  return call(name, Needs::context, Kind::gives_back, [&](Lock&) {
    Simulation& state = simulation();
    const auto stream = handle != nullptr ? find_stream(name, handle) : nullptr;
    if (!stream) {
      return Result::invalid_handle;
    }
    // Work that is under way is still done.
    state.engine.retire(*stream);
    state.streams.remove(handle);
    return Result::success;
  });
}

Result cuStreamSynchronize(Stream handle) {
  constexpr const char* name = "cuStreamSynchronize";
  return call(name, Needs::context, Kind::ordinary, [&](Lock& lock) {
    const auto stream = find_stream(name, handle);
    return stream ? synchronize(lock, stream->last) : Result::invalid_handle;
  });
}

Result cuStreamQuery(Stream handle) {
  constexpr const char* name = "cuStreamQuery";
  return call(name, Needs::context, Kind::ordinary, [&](Lock&) {
    const auto stream = find_stream(name, handle);
    return stream ? query(stream->last) : Result::invalid_handle;
  });
}

Result cuStreamWaitEvent(Stream handle, Event awaited, unsigned) {
  constexpr const char* name = "cuStreamWaitEvent";
  return call(name, Needs::context, Kind::ordinary, [&](Lock&) {
    Simulation& state = simulation();
    const auto stream = find_stream(name, handle);
    const auto event = find_event(name, awaited);
    if (!stream || !event) {
      return Result::invalid_handle;
    }
    // An event that was never recorded is not waited for.
    if (event->recorded) {
      state.engine.enqueue(stream, std::nullopt, event->recorded);
    }
    return state.state_of_device();
  });
}

Result cuEventCreate(Event* handle, unsigned flags) {
  return call("cuEventCreate", Needs::context, Kind::ordinary, [&](Lock&) {
    Simulation& state = simulation();
    auto event = std::make_shared<fake_cuda::Event>();
    event->context = state.contexts.current();
    event->timed = (flags & event_disable_timing) == 0;
    *handle = state.events.add(std::move(event));
    return Result::success;
  });
}

Result cuEventRecord(Event handle, Stream recorded) {
  constexpr const char* name = "cuEventRecord";
  return call(name, Needs::context, Kind::ordinary, [&](Lock&) {
    Simulation& state = simulation();
    const auto stream = find_stream(name, recorded);
    const auto event = find_event(name, handle);
    if (!stream || !event) {
      return Result::invalid_handle;
    }
    if (event->context != stream->context) {
      return state.refuse(name, "event and stream belong to different contexts",
                          Result::invalid_handle);
    }
    event->recorded = state.engine.enqueue(stream, std::nullopt, nullptr);
    return state.state_of_device();
  });
}

Result cuEventQuery(Event handle) {
  constexpr const char* name = "cuEventQuery";
  return call(name, Needs::context, Kind::ordinary, [&](Lock&) {
    const auto event = find_event(name, handle);
    return event ? query(event->recorded) : Result::invalid_handle;
  });
}

Result cuEventSynchronize(Event handle) {
  constexpr const char* name = "cuEventSynchronize";
  return call(name, Needs::context, Kind::ordinary, [&](Lock& lock) {
    const auto event = find_event(name, handle);
    return event ? synchronize(lock, event->recorded) : Result::invalid_handle;
  });
}

Result cuEventDestroy_v2(Event handle) {
  constexpr const char* name = "cuEventDestroy_v2";
  return call(name, Needs::context, Kind::gives_back, [&](Lock&) {
    if (!find_event(name, handle)) {
      return Result::invalid_handle;
    }
    simulation().events.remove(handle);
    return Result::success;
  });
}

Result cuEventElapsedTime(float* milliseconds, Event begin, Event end) {
  constexpr const char* name = "cuEventElapsedTime";
  return call(name, Needs::context, Kind::ordinary, [&](Lock&) {
    const auto from = find_event(name, begin);
    const auto to = find_event(name, end);
    if (!from || !to) {
      return Result::invalid_handle;
    }
    if (!from->timed || !to->timed || !from->recorded || !to->recorded) {
      return simulation().refuse(name, "an event was not recorded, or keeps no time",
                                 Result::invalid_handle);
    }
    if (!from->recorded->done || !to->recorded->done) {
      return Result::not_ready;
    }
    *milliseconds =
        std::chrono::duration<float, std::milli>(to->recorded->at - from->recorded->at).count();
    return Result::success;
  });
}
