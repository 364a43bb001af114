#include "weights/dtype.hpp"

#include <set>
#include <string>

#include "testing.hpp"

namespace pipelined::weights {
namespace {

constexpr auto last = Dtype::u64;

UNIT_TEST(names_lead_back_to_their_dtypes) {
  std::set<std::string_view> names;
  for (int value = 0; value <= static_cast<int>(last); ++value) {
    const auto dtype = static_cast<Dtype>(value);
    CHECK(dtype_from_name(dtype_name(dtype)) == dtype);
    names.insert(dtype_name(dtype));
  }
  CHECK_EQUAL(names.size(), static_cast<int>(last) + 1);
}

UNIT_TEST(names_are_taken_by_the_letter) {
  for (const char* name : {"", "f32", "F32 ", "F3", "F321", "FLOAT32", "BF"}) {
    CHECK(!dtype_from_name(name));
  }
  CHECK(!dtype_from_name(std::string_view("F32\0", 4)));
}

UNIT_TEST(widths_are_what_the_names_say) {
  CHECK_EQUAL(dtype_bits(Dtype::boolean), 8);
  CHECK_EQUAL(dtype_bits(Dtype::f4), 4);
  CHECK_EQUAL(dtype_bits(Dtype::f6_e2m3), 6);
  CHECK_EQUAL(dtype_bits(Dtype::f6_e3m2), 6);
  CHECK_EQUAL(dtype_bits(Dtype::f8_e8m0), 8);
  CHECK_EQUAL(dtype_bits(Dtype::bf16), 16);
  CHECK_EQUAL(dtype_bits(Dtype::c64), 64);
  CHECK_EQUAL(dtype_bits(Dtype::u64), 64);
}

}  // namespace
}  // namespace pipelined::weights
