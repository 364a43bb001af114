#include "weights/json.hpp"

#include <cstdint>
#include <limits>
#include <string>

#include "testing.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights {
namespace {

void skip_all(std::string_view text) {
  JsonReader reader(text);
  reader.skip_value();
  reader.expect_end();
}

std::string string_of(std::string_view text) {
  JsonReader reader(text);
  std::string value = "left over";
  reader.read_string(value);
  reader.expect_end();
  return value;
}

std::optional<std::uint64_t> number_of(std::string_view text) {
  JsonReader reader(text);
  const auto value = reader.read_unsigned();
  reader.expect_end();
  return value;
}

std::string nested(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

UNIT_TEST(objects_are_walked_in_order) {
  JsonReader reader(" {\"a\" : [1, 2] ,\n\"b\":{\"c\":null},\t\"d\":true}\r\n");
  std::string key;
  reader.enter_object();
  CHECK(reader.next_key(key));
  CHECK_EQUAL(key, "a");
  CHECK(reader.peek() == JsonKind::array);
  reader.enter_array();
  CHECK(reader.next_element());
  CHECK_EQUAL(reader.read_unsigned().value_or(0), 1);
  CHECK(reader.next_element());
  CHECK_EQUAL(reader.read_unsigned().value_or(0), 2);
  CHECK(!reader.next_element());
  CHECK(reader.next_key(key));
  CHECK_EQUAL(key, "b");
  CHECK(reader.peek() == JsonKind::object);
  reader.skip_value();
  CHECK(reader.next_key(key));
  CHECK_EQUAL(key, "d");
  CHECK(reader.peek() == JsonKind::boolean);
  reader.skip_value();
  CHECK(!reader.next_key(key));
  reader.expect_end();
}

UNIT_TEST(strings_are_unescaped) {
  CHECK_EQUAL(string_of(R"("")"), "");
  CHECK_EQUAL(string_of(R"("a\"\\\/\b\f\n\r\tz")"), "a\"\\/\b\f\n\r\tz");
  CHECK_EQUAL(string_of(R"("\u0041\u00e9\u20AC\ud83d\ude00")"), "A\u00e9\u20ac\U0001F600");
  CHECK_EQUAL(string_of(R"("\u0000")"), std::string(1, '\0'));
}

UNIT_TEST(strings_that_are_none) {
  for (const char* text : {"\"", "\"a", "\"\\", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"",
                           "\"\\u+123\"", "\"\\ud83d\"", "\"\\ud83dx\"", "\"\\ud83d\\n\"",
                           "\"\\ud83d\\ud83d\"", "\"\\ude00\"", "\"\n\"", "\"\x1f\"", "'a'", "a"}) {
    CHECK_THROWS(InvalidJson, string_of(text));
  }
}

UNIT_TEST(only_plain_integers_are_numbers_to_us) {
  CHECK_EQUAL(number_of("0").value_or(1), 0);
  CHECK_EQUAL(number_of(" 18446744073709551615 ").value_or(0),
              std::numeric_limits<std::uint64_t>::max());
  for (const char* text : {"18446744073709551616", "-0", "-1", "1.0", "1e3", "0E-5", "1.5e+2",
                           "99999999999999999999999999"}) {
    CHECK(!number_of(text).has_value());
  }
  for (const char* text : {"", "-", "+1", "01", "-01", "1.", ".5", "1e", "1e+", "0x1", "1 2", "--1",
                           "NaN", "Infinity"}) {
    CHECK_THROWS(InvalidJson, number_of(text));
  }
}

UNIT_TEST(values_that_are_none) {
  for (const char* text : {"",          " ",       "tru",       "True",       "nul",
                           "falsey",    "[",       "]",         "[1",         "[1,",
                           "[1,]",      "[,1]",    "[1 2]",     "{",          "}",
                           "{1:2}",     "{\"a\"}", "{\"a\":}",  "{\"a\":1,}", "{\"a\":1 \"b\":2}",
                           "{\"a\" 1}", "[1}",     "{\"a\":1]", "// a",       "[]]"}) {
    CHECK_THROWS(InvalidJson, skip_all(text));
  }
  CHECK_THROWS(InvalidJson, skip_all(std::string_view("[]\0", 3)));
}

UNIT_TEST(depth_is_bounded) {
  skip_all(nested(JsonReader::max_depth));
  CHECK_THROWS(JsonTooDeep, skip_all(nested(JsonReader::max_depth + 1)));
  // What ends a container makes room for the next.
  const std::string deep = nested(JsonReader::max_depth - 1);
  skip_all("[" + deep + "," + deep + "]");
}

}  // namespace
}  // namespace pipelined::weights
