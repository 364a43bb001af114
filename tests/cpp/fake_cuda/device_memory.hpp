#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "findings.hpp"
#include "weights/cuda/driver_types.hpp"

namespace fake_cuda {

namespace cuda = pipelined::weights::cuda;

// A piece of memory on a device: a memfd, mapped where only the driver looks. Lives for as long as
// its handle, a mapping or a copy under way refers to it.
class Allocation {
 public:
  // Takes the descriptor over. Throws std::bad_alloc.
  Allocation(int descriptor, std::size_t size, int device, bool exportable, bool imported);
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;
  Allocation(Allocation&&) = delete;
  Allocation& operator=(Allocation&&) = delete;
  ~Allocation();

  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] int device() const noexcept { return device_; }
  [[nodiscard]] bool exportable() const noexcept { return exportable_; }
  [[nodiscard]] bool imported() const noexcept { return imported_; }

 private:
  int descriptor_;
  std::byte* data_ = nullptr;
  std::size_t size_;
  int device_;
  bool exportable_;
  bool imported_;
};

// A part of a range of device addresses: where the driver finds its bytes.
struct Piece {
  std::shared_ptr<Allocation> allocation;
  std::byte* data;
  std::size_t size;
};

// The devices' memory and addresses. Guarded by the simulation's mutex. Each function is the
// driver's function of that name; what it refuses is a finding.
class DeviceMemory {
 public:
  explicit DeviceMemory(Findings& findings) : findings_(findings) {}

  struct Limits {
    std::size_t device_bytes;
    std::size_t granularity;
    int devices;
    bool poison;
  };
  void limit(const Limits& limits) { limits_ = limits; }

  cuda::Result reserve(cuda::DevicePointer* pointer, std::size_t size, std::size_t alignment,
                       cuda::DevicePointer wish);
  cuda::Result free_address(cuda::DevicePointer pointer, std::size_t size);
  cuda::Result create(cuda::AllocationHandle* handle, std::size_t size,
                      const cuda::AllocationProperties* properties);
  cuda::Result release(cuda::AllocationHandle handle);
  cuda::Result map(cuda::DevicePointer pointer, std::size_t size, std::size_t offset,
                   cuda::AllocationHandle handle);
  cuda::Result unmap(cuda::DevicePointer pointer, std::size_t size);
  cuda::Result set_access(cuda::DevicePointer pointer, std::size_t size,
                          const cuda::AccessDescription* descriptions, std::size_t count);
  cuda::Result export_handle(int* descriptor, cuda::AllocationHandle handle, cuda::HandleType type);
  cuda::Result import_handle(cuda::AllocationHandle* handle, int descriptor, cuda::HandleType type);

  // The bytes of a range; nothing if it is not mapped as a whole, or if `device` lacks the access.
  // Without a device no access is asked for.
  [[nodiscard]] std::optional<std::vector<Piece>> find(cuda::DevicePointer pointer,
                                                       std::size_t size, std::optional<int> device,
                                                       cuda::AccessFlags access) const;
  // Whether a range of addresses that was reserved contains the address.
  [[nodiscard]] bool is_reserved(cuda::DevicePointer pointer) const;

  [[nodiscard]] std::size_t used(int device) const;
  [[nodiscard]] std::size_t used() const { return used(any_device); }
  [[nodiscard]] std::size_t peak() const noexcept { return peak_; }
  void forget_peak() { peak_ = used(); }
  [[nodiscard]] std::string leaks() const;
  void clear();

 private:
  static constexpr int any_device = -1;

  struct Mapping {
    std::size_t size;
    std::shared_ptr<Allocation> allocation;
    std::map<int, cuda::AccessFlags> access;
  };
  using Mappings = std::map<cuda::DevicePointer, Mapping>;

  cuda::Result refuse(const char* call, const std::string& why,
                      cuda::Result result = cuda::Result::invalid_value);
  [[nodiscard]] bool aligned(std::size_t value) const { return value % limits_.granularity == 0; }
  [[nodiscard]] bool overlaps(cuda::DevicePointer pointer, std::size_t size) const;
  // The mappings that fill a range exactly; empty if there are none such.
  std::vector<Mappings::iterator> filling(cuda::DevicePointer pointer, std::size_t size);
  cuda::AllocationHandle add(std::shared_ptr<Allocation> allocation);

  Findings& findings_;
  Limits limits_{};
  std::map<cuda::DevicePointer, std::size_t> reservations_;
  std::map<cuda::AllocationHandle, std::shared_ptr<Allocation>> handles_;
  // All that are alive, whoever refers to them.
  std::vector<std::weak_ptr<Allocation>> allocations_;
  Mappings mappings_;
  cuda::AllocationHandle next_handle_ = 0x1000;
  std::size_t peak_ = 0;
};

}  // namespace fake_cuda
