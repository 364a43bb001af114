#include "weights/dtype.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

namespace pipelined::weights {
namespace {

struct Row {
  Dtype dtype;
  std::string_view name;
  std::uint64_t bits;
};

constexpr std::array rows{
    Row{Dtype::boolean, "BOOL", 8},
    Row{Dtype::f4, "F4", 4},
    Row{Dtype::f6_e2m3, "F6_E2M3", 6},
    Row{Dtype::f6_e3m2, "F6_E3M2", 6},
    Row{Dtype::u8, "U8", 8},
    Row{Dtype::i8, "I8", 8},
    Row{Dtype::f8_e5m2, "F8_E5M2", 8},
    Row{Dtype::f8_e4m3, "F8_E4M3", 8},
    Row{Dtype::f8_e8m0, "F8_E8M0", 8},
    Row{Dtype::f8_e4m3fnuz, "F8_E4M3FNUZ", 8},
    Row{Dtype::f8_e5m2fnuz, "F8_E5M2FNUZ", 8},
    Row{Dtype::i16, "I16", 16},
    Row{Dtype::u16, "U16", 16},
    Row{Dtype::f16, "F16", 16},
    Row{Dtype::bf16, "BF16", 16},
    Row{Dtype::i32, "I32", 32},
    Row{Dtype::u32, "U32", 32},
    Row{Dtype::f32, "F32", 32},
    Row{Dtype::c64, "C64", 64},
    Row{Dtype::f64, "F64", 64},
    Row{Dtype::i64, "I64", 64},
    Row{Dtype::u64, "U64", 64},
};

constexpr bool rows_follow_the_enumeration() {
  for (std::size_t index = 0; index < rows.size(); ++index) {
    if (static_cast<std::size_t>(rows.at(index).dtype) != index) {
      return false;
    }
  }
  return rows.back().dtype == Dtype::u64;
}
static_assert(rows_follow_the_enumeration());

const Row& row_of(Dtype dtype) noexcept { return rows[static_cast<std::size_t>(dtype)]; }

}  // namespace

std::string_view dtype_name(Dtype dtype) noexcept { return row_of(dtype).name; }

std::uint64_t dtype_bits(Dtype dtype) noexcept { return row_of(dtype).bits; }

std::optional<Dtype> dtype_from_name(std::string_view name) noexcept {
  const auto* const found = std::ranges::find(rows, name, &Row::name);
  if (found == rows.end()) {
    return std::nullopt;
  }
  return found->dtype;
}

}  // namespace pipelined::weights
