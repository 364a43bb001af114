#include "python/dlpack.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "weights/errors.hpp"

namespace pipelined::python {
namespace {

namespace py = pybind11;
using weights::Dtype;

// The structures of DLPack's unversioned ABI, which every torch reads; the capsule is called
// "dltensor" until a consumer has taken it over.
constexpr const char* capsule_name = "dltensor";

struct DlDevice {
  std::int32_t type;
  std::int32_t id;
};
constexpr std::int32_t dl_cpu = 1;
constexpr std::int32_t dl_cuda = 2;

struct DlDtype {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};
constexpr std::uint8_t dl_int = 0;
constexpr std::uint8_t dl_uint = 1;
constexpr std::uint8_t dl_float = 2;
constexpr std::uint8_t dl_bfloat = 4;
constexpr std::uint8_t dl_complex = 5;
constexpr std::uint8_t dl_bool = 6;

struct DlTensor {
  void* data;
  DlDevice device;
  std::int32_t rank;
  DlDtype dtype;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

struct DlManagedTensor {
  DlTensor tensor;
  void* context;
  void (*deleter)(DlManagedTensor*);
};
static_assert(sizeof(DlTensor) == 48 && sizeof(DlManagedTensor) == 64);

// A capsule's tensor with what it points to. Owned by whoever holds `managed`.
struct Exported {
  DlManagedTensor managed{};
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;
  // Of the memory.
  std::shared_ptr<const void> owner;
};

// Consumers call it without holding the interpreter's lock, so nothing here may need it.
void release(DlManagedTensor* managed) {
  const std::unique_ptr<Exported> exported(
      static_cast<Exported*>(std::exchange(managed->context, nullptr)));
}

void release_unconsumed(PyObject* capsule) {
  if (PyCapsule_IsValid(capsule, capsule_name) != 0) {
    release(static_cast<DlManagedTensor*>(PyCapsule_GetPointer(capsule, capsule_name)));
  }
}

DlDtype carrier_of(const weights::TensorInfo& tensor) {
  const auto bits = static_cast<std::uint8_t>(weights::dtype_bits(tensor.dtype));
  const auto type = [bits](std::uint8_t code) { return DlDtype{code, bits, 1}; };
  switch (tensor.dtype) {
    case Dtype::boolean:
      return type(dl_bool);
    case Dtype::f16:
    case Dtype::f32:
    case Dtype::f64:
      return type(dl_float);
    case Dtype::bf16:
      return type(dl_bfloat);
    case Dtype::c64:
      return type(dl_complex);
    case Dtype::u8:
    case Dtype::f8_e5m2:
    case Dtype::f8_e4m3:
    case Dtype::f8_e8m0:
    case Dtype::f8_e4m3fnuz:
    case Dtype::f8_e5m2fnuz:
      return type(dl_uint);
    // Not every torch that we support takes the wider unsigned types.
    case Dtype::u16:
    case Dtype::u32:
    case Dtype::u64:
    case Dtype::i8:
    case Dtype::i16:
    case Dtype::i32:
    case Dtype::i64:
      return type(dl_int);
    case Dtype::f4:
      if (tensor.shape.empty() || tensor.shape.back() % 2 != 0) {
        throw weights::UnsupportedDtype(
            "tensor '" + tensor.name +
                "' is of dtype F4, of which torch packs two in a byte, but "
                "its last dimension is odd",
            tensor.name);
      }
      return {dl_uint, 8, 1};
    case Dtype::f6_e2m3:
    case Dtype::f6_e3m2:
      break;
  }
  throw weights::UnsupportedDtype(
      "Dtype not understood: " + std::string(weights::dtype_name(tensor.dtype)) + ", of tensor '" +
          tensor.name + "'",
      tensor.name);
}

std::vector<std::int64_t> row_major_strides(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size());
  // Unsigned, because the product of an empty tensor's dimensions may overflow; no element is ever
  // reached through those strides.
  std::uint64_t stride = 1;
  for (std::size_t index = shape.size(); index-- > 0;) {
    strides[index] = static_cast<std::int64_t>(stride);
    stride *= static_cast<std::uint64_t>(shape[index] > 0 ? shape[index] : 1);
  }
  return strides;
}

py::capsule wrapped(const weights::TensorInfo& tensor, void* data, DlDevice device,
                    std::shared_ptr<const void> owner) {
  auto exported = std::make_unique<Exported>();
  const DlDtype dtype = carrier_of(tensor);
  exported->shape = tensor.shape;
  if (tensor.dtype == Dtype::f4) {
    exported->shape.back() /= 2;
  }
  exported->strides = row_major_strides(exported->shape);
  exported->owner = std::move(owner);
  exported->managed = {
      .tensor = {.data = data,
                 .device = device,
                 .rank = static_cast<std::int32_t>(exported->shape.size()),
                 .dtype = dtype,
                 .shape = exported->shape.data(),
                 .strides = exported->strides.data(),
                 .byte_offset = 0},
      .context = exported.get(),
      .deleter = release,
  };
  py::capsule capsule(&exported->managed, capsule_name, release_unconsumed);
  [[maybe_unused]] const Exported* owned_by_capsule = exported.release();
  return capsule;
}

}  // namespace

py::capsule to_dlpack(const weights::TensorInfo& tensor,
                      std::shared_ptr<weights::HostArena> arena) {
  void* const data = arena->at(tensor.begin);
  return wrapped(tensor, data, {dl_cpu, 0}, std::move(arena));
}

py::capsule to_dlpack(const weights::TensorInfo& tensor, std::uintptr_t address, int device,
                      std::shared_ptr<const void> owner) {
  // An address of the device, which only the consumer's kernels follow.
  auto* const data = reinterpret_cast<void*>(address);  // NOLINT(*-reinterpret-cast,*-int-to-ptr)
  return wrapped(tensor, data, {dl_cuda, device}, std::move(owner));
}

}  // namespace pipelined::python
