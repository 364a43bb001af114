// Memory: on the device, and pinned on the host.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <thread>

#include "exports.hpp"
#include "simulation.hpp"

namespace {

using fake_cuda::call;
using fake_cuda::Kind;
using fake_cuda::Lock;
using fake_cuda::Needs;
using fake_cuda::PinnedMemory;
using fake_cuda::Simulation;
using fake_cuda::simulation;
using fake_cuda::Transfer;

// Pinning is work for the kernel: it takes the caller's time, and nobody else's.
void spend_time_pinning(Lock& lock, std::size_t size) {
  const std::uint64_t rate = simulation().configuration.pinning_rate;
  if (rate > 0) {
    lock.unlock();
    std::this_thread::sleep_for(
        std::chrono::duration<double>(static_cast<double>(size) / static_cast<double>(rate)));
    lock.lock();
  }
}

// Memory that a copy needs is given back. Waits for copies that have begun, as otherwise this
// process would die and not only its data be wrong.
void end_copies(Lock& lock, const char* name, const void* pointer) {
  Simulation& state = simulation();
  const auto* const begin = static_cast<const std::byte*>(pointer);
  const std::size_t size = state.pinned.size_at(pointer);
  const auto uses_it = [&](const Transfer& transfer) {
    return transfer.host != nullptr && transfer.host < begin + size &&
           begin < transfer.host + transfer.size;
  };
  if (state.engine.any(uses_it)) {
    state.findings.add(name, "a copy still needs this memory");
  }
  state.changed.wait(lock, [&] { return !state.engine.any(uses_it, true); });
}

bool is_needed(DevicePointer pointer, std::size_t size) {
  const auto touches = [&](DevicePointer address, std::size_t length) {
    return address < pointer + size && pointer < address + length;
  };
  return simulation().engine.any([&](const Transfer& transfer) {
    return touches(transfer.target, transfer.size) || touches(transfer.source, transfer.size);
  });
}

}  // namespace

Result cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  return call("cuMemGetInfo_v2", Needs::context, Kind::ordinary, [&](Lock&) {
    Simulation& state = simulation();
    const int device = state.contexts.find(state.contexts.current())->device;
    const std::size_t used = state.memory.used(device);
    *total = state.configuration.device_bytes;
    *free = used < *total ? *total - used : 0;
    return Result::success;
  });
}

Result cuMemGetAllocationGranularity(std::size_t* granularity,
                                     const AllocationProperties* properties, Granularity) {
  constexpr const char* name = "cuMemGetAllocationGranularity";
  return call(name, Needs::initialisation, Kind::ordinary, [&](Lock&) {
    if (properties == nullptr || properties->type != AllocationType::pinned ||
        properties->location.type != LocationType::device) {
      return simulation().refuse(name, "these properties are not allowed");
    }
    *granularity = simulation().configuration.granularity;
    return Result::success;
  });
}

Result cuMemAddressReserve(DevicePointer* pointer, std::size_t size, std::size_t alignment,
                           DevicePointer wish, unsigned long long) {
  return call("cuMemAddressReserve", Needs::initialisation, Kind::ordinary,
              [&](Lock&) { return simulation().memory.reserve(pointer, size, alignment, wish); });
}

Result cuMemAddressFree(DevicePointer pointer, std::size_t size) {
  return call("cuMemAddressFree", Needs::initialisation, Kind::gives_back,
              [&](Lock&) { return simulation().memory.free_address(pointer, size); });
}

Result cuMemCreate(AllocationHandle* handle, std::size_t size,
                   const AllocationProperties* properties, unsigned long long) {
  return call("cuMemCreate", Needs::initialisation, Kind::ordinary,
              [&](Lock&) { return simulation().memory.create(handle, size, properties); });
}

Result cuMemRelease(AllocationHandle handle) {
  return call("cuMemRelease", Needs::initialisation, Kind::gives_back,
              [&](Lock&) { return simulation().memory.release(handle); });
}

Result cuMemMap(DevicePointer pointer, std::size_t size, std::size_t offset,
                AllocationHandle handle, unsigned long long) {
  return call("cuMemMap", Needs::initialisation, Kind::ordinary,
              [&](Lock&) { return simulation().memory.map(pointer, size, offset, handle); });
}

Result cuMemUnmap(DevicePointer pointer, std::size_t size) {
  constexpr const char* name = "cuMemUnmap";
  return call(name, Needs::initialisation, Kind::gives_back, [&](Lock&) {
    if (is_needed(pointer, size)) {
      simulation().findings.add(name, "a copy still needs this memory");
    }
    return simulation().memory.unmap(pointer, size);
  });
}

Result cuMemSetAccess(DevicePointer pointer, std::size_t size,
                      const AccessDescription* descriptions, std::size_t count) {
  return call("cuMemSetAccess", Needs::initialisation, Kind::ordinary, [&](Lock&) {
    return simulation().memory.set_access(pointer, size, descriptions, count);
  });
}

Result cuMemExportToShareableHandle(void* shareable, AllocationHandle handle, HandleType type,
                                    unsigned long long) {
  return call("cuMemExportToShareableHandle", Needs::initialisation, Kind::ordinary, [&](Lock&) {
    return simulation().memory.export_handle(static_cast<int*>(shareable), handle, type);
  });
}

Result cuMemImportFromShareableHandle(AllocationHandle* handle, void* shareable, HandleType type) {
  return call("cuMemImportFromShareableHandle", Needs::initialisation, Kind::ordinary, [&](Lock&) {
    // The descriptor itself, in the place of a pointer.
    const auto descriptor = static_cast<int>(reinterpret_cast<std::intptr_t>(shareable));
    return simulation().memory.import_handle(handle, descriptor, type);
  });
}

Result cuMemHostAlloc(void** pointer, std::size_t size, unsigned) {
  return call("cuMemHostAlloc", Needs::context, Kind::ordinary, [&](Lock& lock) {
    spend_time_pinning(lock, size);
    return simulation().pinned.allocate(pointer, size);
  });
}

Result cuMemFreeHost(void* pointer) {
  constexpr const char* name = "cuMemFreeHost";
  return call(name, Needs::context, Kind::gives_back, [&](Lock& lock) {
    end_copies(lock, name, pointer);
    return simulation().pinned.free(pointer);
  });
}

Result cuMemHostRegister_v2(void* pointer, std::size_t size, unsigned) {
  return call("cuMemHostRegister_v2", Needs::context, Kind::ordinary, [&](Lock& lock) {
    spend_time_pinning(lock, size);
    return simulation().pinned.add_registered(pointer, size);
  });
}

Result cuMemHostUnregister(void* pointer) {
  constexpr const char* name = "cuMemHostUnregister";
  return call(name, Needs::context, Kind::gives_back, [&](Lock& lock) {
    end_copies(lock, name, pointer);
    return simulation().pinned.remove_registered(pointer);
  });
}

Result cuPointerGetAttribute(void* data, PointerAttribute attribute, DevicePointer pointer) {
  return call("cuPointerGetAttribute", Needs::context, Kind::ordinary, [&](Lock&) {
    Simulation& state = simulation();
    const auto pieces = state.memory.find(pointer, 1, std::nullopt, AccessFlags::none);
    const bool pinned = state.pinned.covers(reinterpret_cast<const void*>(pointer), 1) ==
                        PinnedMemory::Coverage::all;
    if (!pinned && !state.memory.is_reserved(pointer)) {
      // An ordinary address of the host: an answer, not a mistake.
      return Result::invalid_value;
    }
    switch (attribute) {
      case PointerAttribute::context:
        *static_cast<Context*>(data) = pinned ? state.contexts.current() : nullptr;
        return Result::success;
      case PointerAttribute::memory_type:
        *static_cast<MemoryType*>(data) = pinned ? MemoryType::host : MemoryType::device;
        return Result::success;
      case PointerAttribute::device_ordinal:
        *static_cast<int*>(data) = pieces ? pieces->front().allocation->device() : 0;
        return Result::success;
      case PointerAttribute::mapped:
        *static_cast<int*>(data) = pinned || pieces ? 1 : 0;
        return Result::success;
    }
    return state.refuse("cuPointerGetAttribute", "the fake driver does not know the attribute");
  });
}
