// Compares what weights/cuda/driver_types.hpp declares by hand with a toolkit's cuda.h. It is
// compiled where there is a toolkit, and has nothing to run: the compiler is the test.

#include <cuda.h>

#include <cstddef>
#include <string_view>
#include <type_traits>

#include "weights/cuda/driver_types.hpp"

namespace {

namespace ours = pipelined::weights::cuda;
// The list's signatures are written for that namespace; cuda.h has no name like those in it.
using namespace pipelined::weights::cuda;

// What cuda.h calls each of our types.
template <typename Type>
struct Theirs {
  using Name = Type;
};
template <typename Type>
using TheirName = typename Theirs<Type>::Name;

template <typename Type>
struct Theirs<Type*> {
  using Name = TheirName<Type>*;
};
template <typename Type>
struct Theirs<const Type> {
  using Name = const TheirName<Type>;
};
template <typename Returned, typename... Arguments>
struct Theirs<Returned(Arguments...)> {
  using Name = TheirName<Returned>(TheirName<Arguments>...);
};

// A macro, because templates are specialised one by one.
#define CALLED(our_name, their_name)                                        \
  template <>                                                               \
  struct Theirs<ours::our_name> {                                           \
    using Name = their_name;                                                \
  };                                                                        \
  static_assert(sizeof(ours::our_name) == sizeof(their_name), #our_name);   \
  static_assert(alignof(ours::our_name) == alignof(their_name), #our_name); \
  static_assert(std::is_enum_v<ours::our_name> == std::is_enum_v<their_name>, #our_name);

CALLED(Result, CUresult)
CALLED(AllocationType, CUmemAllocationType)
CALLED(HandleType, CUmemAllocationHandleType)
CALLED(LocationType, CUmemLocationType)
CALLED(Location, CUmemLocation)
CALLED(AllocationProperties, CUmemAllocationProp)
CALLED(AccessFlags, CUmemAccess_flags)
CALLED(AccessDescription, CUmemAccessDesc)
CALLED(Granularity, CUmemAllocationGranularity_flags)
CALLED(PointerAttribute, CUpointer_attribute)
CALLED(MemoryType, CUmemorytype)
#undef CALLED

// Handles are pointers to structures that nobody defines: only their names differ.
template <>
struct Theirs<ours::Context> {
  using Name = CUcontext;
};
template <>
struct Theirs<ours::Stream> {
  using Name = CUstream;
};
template <>
struct Theirs<ours::Event> {
  using Name = CUevent;
};
static_assert(std::is_pointer_v<CUcontext> && std::is_pointer_v<CUstream> &&
              std::is_pointer_v<CUevent>);
// Aliases of plain integers are the same type, not another one of the same size.
static_assert(std::is_same_v<ours::Device, CUdevice>);
static_assert(std::is_same_v<ours::DevicePointer, CUdeviceptr>);
static_assert(std::is_same_v<ours::AllocationHandle, CUmemGenericAllocationHandle>);

// Enumerators and flags.
template <typename Ours, typename Number>
constexpr bool is(Ours our_value, Number their_value) {
  return static_cast<unsigned long long>(our_value) == static_cast<unsigned long long>(their_value);
}

using enum ours::Result;
static_assert(is(success, CUDA_SUCCESS));
static_assert(is(invalid_value, CUDA_ERROR_INVALID_VALUE));
static_assert(is(out_of_memory, CUDA_ERROR_OUT_OF_MEMORY));
static_assert(is(not_initialized, CUDA_ERROR_NOT_INITIALIZED));
static_assert(is(deinitialized, CUDA_ERROR_DEINITIALIZED));
static_assert(is(no_device, CUDA_ERROR_NO_DEVICE));
static_assert(is(invalid_device, CUDA_ERROR_INVALID_DEVICE));
static_assert(is(invalid_context, CUDA_ERROR_INVALID_CONTEXT));
static_assert(is(invalid_handle, CUDA_ERROR_INVALID_HANDLE));
static_assert(is(not_ready, CUDA_ERROR_NOT_READY));
static_assert(is(illegal_address, CUDA_ERROR_ILLEGAL_ADDRESS));
static_assert(is(context_is_destroyed, CUDA_ERROR_CONTEXT_IS_DESTROYED));
static_assert(is(host_memory_already_registered, CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED));
static_assert(is(host_memory_not_registered, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED));
static_assert(is(not_permitted, CUDA_ERROR_NOT_PERMITTED));
static_assert(is(not_supported, CUDA_ERROR_NOT_SUPPORTED));
static_assert(is(unknown, CUDA_ERROR_UNKNOWN));

static_assert(is(ours::AllocationType::pinned, CU_MEM_ALLOCATION_TYPE_PINNED));
static_assert(is(ours::HandleType::none, CU_MEM_HANDLE_TYPE_NONE));
static_assert(is(ours::HandleType::posix_file_descriptor,
                 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
static_assert(is(ours::LocationType::device, CU_MEM_LOCATION_TYPE_DEVICE));
static_assert(is(ours::AccessFlags::none, CU_MEM_ACCESS_FLAGS_PROT_NONE));
static_assert(is(ours::AccessFlags::read, CU_MEM_ACCESS_FLAGS_PROT_READ));
static_assert(is(ours::AccessFlags::read_write, CU_MEM_ACCESS_FLAGS_PROT_READWRITE));
static_assert(is(ours::Granularity::minimum, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
static_assert(is(ours::Granularity::recommended, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
static_assert(is(ours::PointerAttribute::context, CU_POINTER_ATTRIBUTE_CONTEXT));
static_assert(is(ours::PointerAttribute::memory_type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE));
static_assert(is(ours::PointerAttribute::device_ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL));
static_assert(is(ours::PointerAttribute::mapped, CU_POINTER_ATTRIBUTE_MAPPED));
static_assert(is(ours::MemoryType::host, CU_MEMORYTYPE_HOST));
static_assert(is(ours::MemoryType::device, CU_MEMORYTYPE_DEVICE));

static_assert(is(ours::stream_non_blocking, CU_STREAM_NON_BLOCKING));
static_assert(is(ours::event_blocking_sync, CU_EVENT_BLOCKING_SYNC));
static_assert(is(ours::event_disable_timing, CU_EVENT_DISABLE_TIMING));
static_assert(is(ours::host_alloc_portable, CU_MEMHOSTALLOC_PORTABLE));
static_assert(is(ours::host_register_portable, CU_MEMHOSTREGISTER_PORTABLE));

// Where the members lie.
static_assert(offsetof(ours::Location, type) == offsetof(CUmemLocation, type));
static_assert(offsetof(ours::Location, id) == offsetof(CUmemLocation, id));
static_assert(offsetof(ours::AccessDescription, location) == offsetof(CUmemAccessDesc, location));
static_assert(offsetof(ours::AccessDescription, flags) == offsetof(CUmemAccessDesc, flags));
using Properties = ours::AllocationProperties;
using Flags = ours::AllocationFlags;
using TheirFlags = decltype(CUmemAllocationProp::allocFlags);
static_assert(offsetof(Properties, type) == offsetof(CUmemAllocationProp, type));
static_assert(offsetof(Properties, requested_handle_types) ==
              offsetof(CUmemAllocationProp, requestedHandleTypes));
static_assert(offsetof(Properties, location) == offsetof(CUmemAllocationProp, location));
static_assert(offsetof(Properties, win32_handle_metadata) ==
              offsetof(CUmemAllocationProp, win32HandleMetaData));
static_assert(offsetof(Properties, flags) == offsetof(CUmemAllocationProp, allocFlags));
static_assert(sizeof(Flags) == sizeof(TheirFlags));
static_assert(offsetof(Flags, compression_type) == offsetof(TheirFlags, compressionType));
static_assert(offsetof(Flags, gpu_direct_rdma_capable) ==
              offsetof(TheirFlags, gpuDirectRDMACapable));
static_assert(offsetof(Flags, usage) == offsetof(TheirFlags, usage));
static_assert(offsetof(Flags, reserved) == offsetof(TheirFlags, reserved));
static_assert(sizeof(Flags::reserved) == sizeof(TheirFlags::reserved));

// Each function: that it exists, and has our signature.
#define SAME_SIGNATURE(member, symbol, ...)                                                       \
  static_assert(std::is_same_v<TheirName<__VA_ARGS__>, std::remove_pointer_t<decltype(&symbol)>>, \
                #symbol);
PIPELINED_CUDA_FUNCTIONS(SAME_SIGNATURE)
#undef SAME_SIGNATURE

// And that the exported name is the current one: cuda.h defines the name of a function that has
// changed as a macro for its present form. The signature alone would not tell, where only the
// meaning changed. cuEventElapsedTime is the exception that driver_types.hpp explains.
#define TEXT(name) #name
#define EXPANDED_TEXT(name) TEXT(name)
// Two uses of the name: the operator # takes the first as it is written, the second is expanded.
#define SAME_FORM(member, symbol, ...)                                 \
  static_assert(std::string_view(#symbol) == EXPANDED_TEXT(symbol) ||  \
                    std::string_view(#symbol) == "cuEventElapsedTime", \
                #symbol);
PIPELINED_CUDA_FUNCTIONS(SAME_FORM)
#undef SAME_FORM

}  // namespace
