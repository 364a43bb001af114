// Errors, devices, contexts.

#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <utility>

#include "exports.hpp"
#include "simulation.hpp"

namespace {

using fake_cuda::call;
using fake_cuda::ContextState;
using fake_cuda::Kind;
using fake_cuda::Lock;
using fake_cuda::Needs;
using fake_cuda::simulation;

struct Named {
  Result result;
  const char* name;
  const char* description;
};

constexpr std::array known_errors{
    Named{Result::success, "CUDA_SUCCESS", "no error"},
    Named{Result::invalid_value, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    Named{Result::out_of_memory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    Named{Result::not_initialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    Named{Result::deinitialized, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    Named{Result::no_device, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    Named{Result::invalid_device, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    Named{Result::invalid_context, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    Named{Result::invalid_handle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    Named{Result::not_ready, "CUDA_ERROR_NOT_READY", "device not ready"},
    Named{Result::illegal_address, "CUDA_ERROR_ILLEGAL_ADDRESS",
          "an illegal memory access was encountered"},
    Named{Result::context_is_destroyed, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    Named{Result::host_memory_already_registered, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
          "part or all of the requested memory range is already mapped"},
    Named{Result::host_memory_not_registered, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
          "pointer does not correspond to a registered memory region"},
    Named{Result::not_permitted, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    Named{Result::not_supported, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    Named{Result::unknown, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

const Named* find_error(Result result) {
  for (const Named& known : known_errors) {
    if (known.result == result) {
      return &known;
    }
  }
  return nullptr;
}

bool exists(Device device) {
  return device >= 0 && std::cmp_less(device, simulation().configuration.devices);
}

}  // namespace

Result cuGetErrorName(Result error, const char** text) {
  return call("cuGetErrorName", Needs::nothing, Kind::ordinary, [&](Lock&) {
    const Named* const known = find_error(error);
    *text = known != nullptr ? known->name : nullptr;
    return known != nullptr ? Result::success : Result::invalid_value;
  });
}

Result cuGetErrorString(Result error, const char** text) {
  return call("cuGetErrorString", Needs::nothing, Kind::ordinary, [&](Lock&) {
    const Named* const known = find_error(error);
    *text = known != nullptr ? known->description : nullptr;
    return known != nullptr ? Result::success : Result::invalid_value;
  });
}

Result cuInit(unsigned flags) {
  return call("cuInit", Needs::nothing, Kind::ordinary, [&](Lock&) {
    if (flags != 0) {
      return simulation().refuse("cuInit", "flags must be 0");
    }
    if (simulation().configuration.devices == 0) {
      return Result::no_device;
    }
    simulation().owner.store(::getpid());
    return Result::success;
  });
}

Result cuDeviceGetCount(int* count) {
  return call("cuDeviceGetCount", Needs::initialisation, Kind::ordinary, [&](Lock&) {
    *count = static_cast<int>(simulation().configuration.devices);
    return Result::success;
  });
}

Result cuDeviceGet(Device* device, int ordinal) {
  return call("cuDeviceGet", Needs::initialisation, Kind::ordinary, [&](Lock&) {
    *device = ordinal;
    return exists(ordinal) ? Result::success : Result::invalid_device;
  });
}

Result cuDeviceTotalMem_v2(std::size_t* bytes, Device device) {
  return call("cuDeviceTotalMem_v2", Needs::initialisation, Kind::ordinary, [&](Lock&) {
    *bytes = simulation().configuration.device_bytes;
    return exists(device) ? Result::success : Result::invalid_device;
  });
}

Result cuDevicePrimaryCtxRetain(Context* context, Device device) {
  return call("cuDevicePrimaryCtxRetain", Needs::initialisation, Kind::ordinary, [&](Lock&) {
    if (!exists(device)) {
      return Result::invalid_device;
    }
    *context = simulation().contexts.retain(device);
    return Result::success;
  });
}

Result cuDevicePrimaryCtxRelease_v2(Device device) {
  constexpr const char* name = "cuDevicePrimaryCtxRelease_v2";
  return call(name, Needs::initialisation, Kind::gives_back, [&](Lock&) {
    fake_cuda::Simulation& state = simulation();
    std::shared_ptr<ContextState> destroyed;
    if (!state.contexts.release(device, &destroyed)) {
      return state.refuse(name, "nobody holds a reference", Result::invalid_context);
    }
    if (!destroyed) {
      return Result::success;
    }
    if (destroyed->default_stream) {
      state.engine.retire(*destroyed->default_stream);
    }
    const auto inside = [&](const auto& object) { return object.context == destroyed->handle; };
    if (state.streams.any(inside) || state.events.any(inside)) {
      state.findings.add(name, "the context was destroyed with streams or events in it");
    }
    return Result::success;
  });
}

Result cuCtxPushCurrent_v2(Context context) {
  constexpr const char* name = "cuCtxPushCurrent_v2";
  return call(name, Needs::initialisation, Kind::ordinary, [&](Lock&) {
    if (!simulation().contexts.find(context)) {
      return simulation().refuse(name, "this is no context, or it is destroyed",
                                 Result::invalid_context);
    }
    simulation().contexts.push(context);
    return Result::success;
  });
}

Result cuCtxPopCurrent_v2(Context* context) {
  constexpr const char* name = "cuCtxPopCurrent_v2";
  return call(name, Needs::initialisation, Kind::gives_back, [&](Lock&) {
    Context popped = nullptr;
    if (!simulation().contexts.pop(&popped)) {
      return simulation().refuse(name, "this thread has no context", Result::invalid_context);
    }
    if (context != nullptr) {
      *context = popped;
    }
    return Result::success;
  });
}

Result cuCtxGetCurrent(Context* context) {
  return call("cuCtxGetCurrent", Needs::initialisation, Kind::ordinary, [&](Lock&) {
    *context = simulation().contexts.current();
    return Result::success;
  });
}

Result cuCtxSynchronize() {
  return call("cuCtxSynchronize", Needs::context, Kind::ordinary, [&](Lock& lock) {
    simulation().engine.drain(lock, simulation().contexts.current());
    return simulation().state_of_device();
  });
}
