#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

// The part of the CUDA driver's interface that the loader uses, declared by hand, so that it is
// built where there is no CUDA toolkit. Nothing is used that a driver of CUDA 11.4 lacks.
//
// The sizes, layouts, values and signatures are those of cuda.h; where a toolkit is present,
// tests/cpp/cuda_header_check.cpp has the compiler compare each of them.
namespace pipelined::weights::cuda {

// The compiler of the driver gave its enumerations four bytes, whatever their values.
// NOLINTBEGIN(performance-enum-size)

// CUresult. The driver returns values beside these, too.
enum class Result : std::uint32_t {
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  not_initialized = 3,
  deinitialized = 4,
  no_device = 100,
  invalid_device = 101,
  invalid_context = 201,
  invalid_handle = 400,
  not_ready = 600,
  illegal_address = 700,
  context_is_destroyed = 709,
  host_memory_already_registered = 712,
  host_memory_not_registered = 713,
  not_permitted = 800,
  not_supported = 801,
  unknown = 999,
};

using Device = int;
// An address on the device. The host cannot follow it.
using DevicePointer = unsigned long long;
using Context = struct ContextTag*;
// Null is the default stream of the current context.
using Stream = struct StreamTag*;
using Event = struct EventTag*;
// Physical memory, which has an address only where it is mapped.
using AllocationHandle = unsigned long long;

enum class AllocationType : std::uint32_t { pinned = 1 };

enum class HandleType : std::uint32_t { none = 0, posix_file_descriptor = 1 };

enum class LocationType : std::uint32_t { device = 1 };

struct Location {
  LocationType type;
  int id;
};

struct AllocationFlags {
  unsigned char compression_type;
  unsigned char gpu_direct_rdma_capable;
  unsigned short usage;
  std::array<unsigned char, 4> reserved;
};

struct AllocationProperties {
  AllocationType type;
  HandleType requested_handle_types;
  Location location;
  void* win32_handle_metadata;
  AllocationFlags flags;
};

enum class AccessFlags : std::uint32_t { none = 0, read = 1, read_write = 3 };

struct AccessDescription {
  Location location;
  AccessFlags flags;
};

enum class Granularity : std::uint32_t { minimum = 0, recommended = 1 };

enum class PointerAttribute : std::uint32_t {
  context = 1,
  memory_type = 2,
  device_ordinal = 9,
  mapped = 13,
};

enum class MemoryType : std::uint32_t { host = 1, device = 2 };

// NOLINTEND(performance-enum-size)

// The flags that functions take as plain integers.
constexpr unsigned stream_non_blocking = 1;
constexpr unsigned event_blocking_sync = 1;
constexpr unsigned event_disable_timing = 2;
// The memory counts as pinned in every context, not only in the one that is current.
constexpr unsigned host_alloc_portable = 1;
constexpr unsigned host_register_portable = 1;

// Every function that is used: its name in the table, the name that libcuda exports, its signature.
// A function that changed keeps its old name for the old form, so the exported name says which form
// is meant. (cuEventElapsedTime is the old form on purpose: drivers before 12.8 have no other.)
//
// A macro, so that the table, what fills it and what compares it with cuda.h cannot disagree.
// clang-format off: one entry a line
#define PIPELINED_CUDA_FUNCTIONS(entry)                                                            \
  entry(get_error_name, cuGetErrorName, Result(Result, const char**))                              \
  entry(get_error_string, cuGetErrorString, Result(Result, const char**))                          \
  entry(init, cuInit, Result(unsigned))                                                            \
  entry(device_get, cuDeviceGet, Result(Device*, int))                                             \
  entry(device_get_count, cuDeviceGetCount, Result(int*))                                          \
  entry(device_total_mem, cuDeviceTotalMem_v2, Result(std::size_t*, Device))                       \
  entry(device_primary_ctx_retain, cuDevicePrimaryCtxRetain, Result(Context*, Device))             \
  entry(device_primary_ctx_release, cuDevicePrimaryCtxRelease_v2, Result(Device))                  \
  entry(ctx_push_current, cuCtxPushCurrent_v2, Result(Context))                                    \
  entry(ctx_pop_current, cuCtxPopCurrent_v2, Result(Context*))                                     \
  entry(ctx_get_current, cuCtxGetCurrent, Result(Context*))                                        \
  entry(ctx_synchronize, cuCtxSynchronize, Result())                                               \
  entry(mem_get_info, cuMemGetInfo_v2, Result(std::size_t*, std::size_t*))                         \
  entry(mem_get_allocation_granularity, cuMemGetAllocationGranularity,                             \
        Result(std::size_t*, const AllocationProperties*, Granularity))                            \
  entry(mem_address_reserve, cuMemAddressReserve,                                                  \
        Result(DevicePointer*, std::size_t, std::size_t, DevicePointer, unsigned long long))       \
  entry(mem_address_free, cuMemAddressFree, Result(DevicePointer, std::size_t))                    \
  entry(mem_create, cuMemCreate,                                                                   \
        Result(AllocationHandle*, std::size_t, const AllocationProperties*, unsigned long long))   \
  entry(mem_release, cuMemRelease, Result(AllocationHandle))                                       \
  entry(mem_map, cuMemMap,                                                                         \
        Result(DevicePointer, std::size_t, std::size_t, AllocationHandle, unsigned long long))     \
  entry(mem_unmap, cuMemUnmap, Result(DevicePointer, std::size_t))                                 \
  entry(mem_set_access, cuMemSetAccess,                                                            \
        Result(DevicePointer, std::size_t, const AccessDescription*, std::size_t))                 \
  entry(mem_export_to_shareable_handle, cuMemExportToShareableHandle,                              \
        Result(void*, AllocationHandle, HandleType, unsigned long long))                           \
  entry(mem_import_from_shareable_handle, cuMemImportFromShareableHandle,                          \
        Result(AllocationHandle*, void*, HandleType))                                              \
  entry(mem_host_alloc, cuMemHostAlloc, Result(void**, std::size_t, unsigned))                     \
  entry(mem_free_host, cuMemFreeHost, Result(void*))                                               \
  entry(mem_host_register, cuMemHostRegister_v2, Result(void*, std::size_t, unsigned))             \
  entry(mem_host_unregister, cuMemHostUnregister, Result(void*))                                   \
  entry(pointer_get_attribute, cuPointerGetAttribute,                                              \
        Result(void*, PointerAttribute, DevicePointer))                                            \
  entry(memcpy_htod_async, cuMemcpyHtoDAsync_v2,                                                   \
        Result(DevicePointer, const void*, std::size_t, Stream))                                   \
  entry(memcpy_dtoh_async, cuMemcpyDtoHAsync_v2,                                                   \
        Result(void*, DevicePointer, std::size_t, Stream))                                         \
  entry(memcpy_dtoh, cuMemcpyDtoH_v2, Result(void*, DevicePointer, std::size_t))                   \
  entry(memcpy_dtod_async, cuMemcpyDtoDAsync_v2,                                                   \
        Result(DevicePointer, DevicePointer, std::size_t, Stream))                                 \
  entry(memset_d8_async, cuMemsetD8Async,                                                          \
        Result(DevicePointer, unsigned char, std::size_t, Stream))                                 \
  entry(stream_create, cuStreamCreate, Result(Stream*, unsigned))                                  \
  entry(stream_destroy, cuStreamDestroy_v2, Result(Stream))                                        \
  entry(stream_synchronize, cuStreamSynchronize, Result(Stream))                                   \
  entry(stream_wait_event, cuStreamWaitEvent, Result(Stream, Event, unsigned))                     \
  entry(stream_query, cuStreamQuery, Result(Stream))                                               \
  entry(event_create, cuEventCreate, Result(Event*, unsigned))                                     \
  entry(event_record, cuEventRecord, Result(Event, Stream))                                        \
  entry(event_query, cuEventQuery, Result(Event))                                                  \
  entry(event_synchronize, cuEventSynchronize, Result(Event))                                      \
  entry(event_destroy, cuEventDestroy_v2, Result(Event))                                           \
  entry(event_elapsed_time, cuEventElapsedTime, Result(float*, Event, Event))
// clang-format on

}  // namespace pipelined::weights::cuda
