#include "device_memory.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace fake_cuda {
namespace {

using cuda::Result;

constexpr const char* memfd_name = "fake-cuda";
constexpr int poison_byte = 0xA5;

void* address(cuda::DevicePointer pointer) { return reinterpret_cast<void*>(pointer); }

}  // namespace

Allocation::Allocation(int descriptor, std::size_t size, int device, bool exportable, bool imported)
    : descriptor_(descriptor),
      size_(size),
      device_(device),
      exportable_(exportable),
      imported_(imported) {
  void* const data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) {
    static_cast<void>(::close(descriptor));
    throw std::bad_alloc();
  }
  data_ = static_cast<std::byte*>(data);
}

Allocation::~Allocation() {
  static_cast<void>(::munmap(data_, size_));
  static_cast<void>(::close(descriptor_));
}

Result DeviceMemory::refuse(const char* call, const std::string& why, Result result) {
  findings_.add(call, why);
  return result;
}

bool DeviceMemory::overlaps(cuda::DevicePointer pointer, std::size_t size) const {
  return std::ranges::any_of(mappings_, [&](const auto& entry) {
    return entry.first < pointer + size && pointer < entry.first + entry.second.size;
  });
}

std::vector<DeviceMemory::Mappings::iterator> DeviceMemory::filling(cuda::DevicePointer pointer,
                                                                    std::size_t size) {
  std::vector<Mappings::iterator> result;
  const cuda::DevicePointer end = pointer + size;
  for (auto entry = mappings_.find(pointer); pointer < end; ++entry) {
    if (entry == mappings_.end() || entry->first != pointer) {
      return {};
    }
    pointer += entry->second.size;
    result.push_back(entry);
  }
  return pointer == end ? result : std::vector<Mappings::iterator>{};
}

cuda::AllocationHandle DeviceMemory::add(std::shared_ptr<Allocation> allocation) {
  std::erase_if(allocations_, [](const auto& known) { return known.expired(); });
  allocations_.push_back(allocation);
  peak_ = std::max(peak_, used());
  const cuda::AllocationHandle handle = next_handle_++;
  handles_.emplace(handle, std::move(allocation));
  return handle;
}

std::size_t DeviceMemory::used(int device) const {
  std::size_t bytes = 0;
  for (const auto& known : allocations_) {
    const std::shared_ptr<Allocation> allocation = known.lock();
    if (allocation && !allocation->imported() &&
        (device == any_device || allocation->device() == device)) {
      bytes += allocation->size();
    }
  }
  return bytes;
}

Result DeviceMemory::reserve(cuda::DevicePointer* pointer, std::size_t size, std::size_t alignment,
                             cuda::DevicePointer wish) {
  constexpr const char* call = "cuMemAddressReserve";
  if (size == 0 || !aligned(size) || (alignment & (alignment - 1)) != 0) {
    return refuse(call, "size " + std::to_string(size) + " or alignment " +
                            std::to_string(alignment) + " is not allowed");
  }
  alignment = std::max(alignment, limits_.granularity);
  const auto reserved = [](void* where, std::size_t bytes) {
    return ::mmap(where, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  };
  // More than asked for, so that an aligned part can be cut out.
  void* const wished = wish % alignment == 0 ? address(wish) : nullptr;
  void* const data = reserved(wished, size + alignment);
  if (data == MAP_FAILED) {
    return Result::out_of_memory;
  }
  const auto begin = reinterpret_cast<cuda::DevicePointer>(data);
  const cuda::DevicePointer start = (begin + alignment - 1) / alignment * alignment;
  if (start != begin) {
    static_cast<void>(::munmap(data, start - begin));
  }
  static_cast<void>(::munmap(address(start + size), begin + alignment - start));
  reservations_.emplace(start, size);
  *pointer = start;
  return Result::success;
}

Result DeviceMemory::free_address(cuda::DevicePointer pointer, std::size_t size) {
  constexpr const char* call = "cuMemAddressFree";
  const auto found = reservations_.find(pointer);
  if (found == reservations_.end() || found->second != size) {
    return refuse(call, "this range was not reserved, or is free already");
  }
  if (overlaps(pointer, size)) {
    return refuse(call, "something is still mapped there");
  }
  reservations_.erase(found);
  static_cast<void>(::munmap(address(pointer), size));
  return Result::success;
}

Result DeviceMemory::create(cuda::AllocationHandle* handle, std::size_t size,
                            const cuda::AllocationProperties* properties) {
  constexpr const char* call = "cuMemCreate";
  if (properties == nullptr || properties->type != cuda::AllocationType::pinned ||
      properties->location.type != cuda::LocationType::device ||
      properties->win32_handle_metadata != nullptr) {
    return refuse(call, "these properties are not allowed");
  }
  const int device = properties->location.id;
  if (device < 0 || device >= limits_.devices) {
    return refuse(call, "there is no device " + std::to_string(device), Result::invalid_device);
  }
  if (size == 0 || !aligned(size)) {
    return refuse(call, "size " + std::to_string(size) + " is no multiple of the granularity");
  }
  if (size > limits_.device_bytes || used(device) > limits_.device_bytes - size) {
    return Result::out_of_memory;
  }
  const int descriptor = ::memfd_create(memfd_name, MFD_CLOEXEC);
  if (descriptor < 0) {
    return Result::out_of_memory;
  }
  if (::ftruncate(descriptor, static_cast<off_t>(size)) != 0) {
    static_cast<void>(::close(descriptor));
    return Result::out_of_memory;
  }
  const bool exportable =
      properties->requested_handle_types == cuda::HandleType::posix_file_descriptor;
  auto allocation = std::make_shared<Allocation>(descriptor, size, device, exportable, false);
  if (limits_.poison) {
    std::memset(allocation->data(), poison_byte, size);
  }
  *handle = add(std::move(allocation));
  return Result::success;
}

Result DeviceMemory::release(cuda::AllocationHandle handle) {
  if (handles_.erase(handle) == 0) {
    return refuse("cuMemRelease", "this is no handle, or it was released already");
  }
  return Result::success;
}

Result DeviceMemory::map(cuda::DevicePointer pointer, std::size_t size, std::size_t offset,
                         cuda::AllocationHandle handle) {
  constexpr const char* call = "cuMemMap";
  const auto found = handles_.find(handle);
  if (found == handles_.end()) {
    return refuse(call, "this is no handle, or it was released already");
  }
  // As of CUDA 13 an offset "must be zero".
  if (size == 0 || !aligned(size) || !aligned(pointer) || offset != 0 ||
      size > found->second->size()) {
    return refuse(call, "address, size or offset is misaligned, or exceeds the memory");
  }
  const auto reservation = reservations_.upper_bound(pointer);
  if (reservation == reservations_.begin() ||
      pointer + size > std::prev(reservation)->first + std::prev(reservation)->second) {
    return refuse(call, "these addresses were not reserved");
  }
  if (overlaps(pointer, size)) {
    return refuse(call, "something is mapped there already");
  }
  mappings_.emplace(pointer, Mapping{size, found->second, {}});
  return Result::success;
}

Result DeviceMemory::unmap(cuda::DevicePointer pointer, std::size_t size) {
  const auto entries = filling(pointer, size);
  if (entries.empty()) {
    return refuse("cuMemUnmap", "this range is not one of whole mappings");
  }
  for (const auto& entry : entries) {
    mappings_.erase(entry);
  }
  return Result::success;
}

Result DeviceMemory::set_access(cuda::DevicePointer pointer, std::size_t size,
                                const cuda::AccessDescription* descriptions, std::size_t count) {
  constexpr const char* call = "cuMemSetAccess";
  const auto entries = filling(pointer, size);
  if (entries.empty()) {
    return refuse(call, "this range is not one of whole mappings");
  }
  for (std::size_t index = 0; index < count; ++index) {
    const auto& [location, flags] = descriptions[index];
    if (location.type != cuda::LocationType::device || location.id < 0 ||
        location.id >= limits_.devices) {
      return refuse(call, "there is no such device", Result::invalid_device);
    }
    for (const auto& entry : entries) {
      entry->second.access[location.id] = flags;
    }
  }
  return Result::success;
}

Result DeviceMemory::export_handle(int* descriptor, cuda::AllocationHandle handle,
                                   cuda::HandleType type) {
  constexpr const char* call = "cuMemExportToShareableHandle";
  const auto found = handles_.find(handle);
  if (found == handles_.end()) {
    return refuse(call, "this is no handle, or it was released already");
  }
  if (type != cuda::HandleType::posix_file_descriptor || !found->second->exportable()) {
    return refuse(call, "the memory was not created to be exported in this form");
  }
  *descriptor = ::fcntl(found->second->descriptor(), F_DUPFD_CLOEXEC, 0);
  return *descriptor >= 0 ? Result::success : Result::unknown;
}

Result DeviceMemory::import_handle(cuda::AllocationHandle* handle, int descriptor,
                                   cuda::HandleType type) {
  constexpr const char* call = "cuMemImportFromShareableHandle";
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor);
  std::string target(64, '\0');
  const ssize_t length = ::readlink(link.c_str(), target.data(), target.size());
  struct stat status{};
  if (type != cuda::HandleType::posix_file_descriptor || length < 0 ||
      target.find(memfd_name) == std::string::npos || ::fstat(descriptor, &status) != 0) {
    return refuse(call, "this is no exported memory");
  }
  const int own = ::fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (own < 0) {
    return Result::unknown;
  }
  *handle = add(
      std::make_shared<Allocation>(own, static_cast<std::size_t>(status.st_size), 0, true, true));
  return Result::success;
}

std::optional<std::vector<Piece>> DeviceMemory::find(cuda::DevicePointer pointer, std::size_t size,
                                                     std::optional<int> device,
                                                     cuda::AccessFlags access) const {
  std::vector<Piece> pieces;
  while (size > 0) {
    auto entry = mappings_.upper_bound(pointer);
    if (entry == mappings_.begin()) {
      return std::nullopt;
    }
    --entry;
    const auto& [mapped, allocation, accesses] = entry->second;
    const std::size_t offset = pointer - entry->first;
    if (offset >= mapped) {
      return std::nullopt;
    }
    if (device) {
      const auto granted = accesses.find(*device);
      const auto wanted = static_cast<unsigned>(access);
      if (granted == accesses.end() ||
          (static_cast<unsigned>(granted->second) & wanted) != wanted) {
        return std::nullopt;
      }
    }
    const std::size_t length = std::min(size, mapped - offset);
    pieces.push_back({allocation, allocation->data() + offset, length});
    pointer += length;
    size -= length;
  }
  return pieces;
}

bool DeviceMemory::is_reserved(cuda::DevicePointer pointer) const {
  const auto next = reservations_.upper_bound(pointer);
  return next != reservations_.begin() &&
         pointer < std::prev(next)->first + std::prev(next)->second;
}

std::string DeviceMemory::leaks() const {
  std::string text;
  const auto line = [&text](std::size_t count, const char* what) {
    if (count > 0) {
      text += "still held: " + std::to_string(count) + " " + what + "\n";
    }
  };
  line(handles_.size(), "handles of device memory");
  line(mappings_.size(), "mappings of device memory");
  line(reservations_.size(), "reserved ranges of device addresses");
  return text;
}

void DeviceMemory::clear() {
  mappings_.clear();
  handles_.clear();
  allocations_.clear();
  for (const auto& [pointer, size] : reservations_) {
    static_cast<void>(::munmap(address(pointer), size));
  }
  reservations_.clear();
  peak_ = 0;
}

}  // namespace fake_cuda
