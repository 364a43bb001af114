#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace pipelined::weights {

// The element types of the safetensors format, in the order of its own list.
enum class Dtype : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};

// The name as headers spell it, such as "BF16".
[[nodiscard]] std::string_view dtype_name(Dtype dtype) noexcept;

// The width of one element. Elements narrower than a byte lie packed, without padding.
[[nodiscard]] std::uint64_t dtype_bits(Dtype dtype) noexcept;

// Nothing for a name that the format does not define; case matters.
[[nodiscard]] std::optional<Dtype> dtype_from_name(std::string_view name) noexcept;

}  // namespace pipelined::weights
