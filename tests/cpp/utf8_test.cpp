#include "weights/utf8.hpp"

#include <cstdint>
#include <string>

#include "testing.hpp"

namespace pipelined::weights {
namespace {

std::string encoded(std::uint32_t code_point) {
  std::string text;
  append_utf8(text, code_point);
  return text;
}

UNIT_TEST(every_code_point_is_valid_once_encoded) {
  for (std::uint32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point < 0xD800 || code_point > 0xDFFF) {
      const std::string text = encoded(code_point);
      CHECK_EQUAL(first_invalid_utf8(text), text.size());
    }
  }
}

UNIT_TEST(lengths_change_where_they_should) {
  CHECK_EQUAL(encoded(0x7F), "\x7F");
  CHECK_EQUAL(encoded(0x80), "\xC2\x80");
  CHECK_EQUAL(encoded(0x7FF), "\xDF\xBF");
  CHECK_EQUAL(encoded(0x800), "\xE0\xA0\x80");
  CHECK_EQUAL(encoded(0xFFFF), "\xEF\xBF\xBF");
  CHECK_EQUAL(encoded(0x10000), "\xF0\x90\x80\x80");
  CHECK_EQUAL(encoded(0x10FFFF), "\xF4\x8F\xBF\xBF");
}

UNIT_TEST(bad_sequences_are_found_wherever_they_begin) {
  for (const char* bad :
       {"\x80", "\xBF", "\xC0\xAF", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xED\xBF\xBF",
        "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC2", "\xE2\x82",
        "\xF0\x9F\x98", "\xC2 ", "\xE2\x82 "}) {
    for (std::size_t before = 0; before < 20; ++before) {
      const std::string text = std::string(before, 'a') + bad;
      CHECK_EQUAL(first_invalid_utf8(text), before);
    }
  }
}

}  // namespace
}  // namespace pipelined::weights
