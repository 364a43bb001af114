#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace pipelined::weights {

// What a JSON value is, told by its first character.
enum class JsonKind : std::uint8_t { object, array, string, number, boolean, null };

// Reads one JSON document (RFC 8259) from front to back, without building it in memory.
//
// Strict: no comments, no trailing commas, no control characters or lone surrogates in strings.
// Linear in the length of the text; nesting is bounded by max_depth. The text must be valid UTF-8
// (first_invalid_utf8 tells) and outlive the reader. Duplicate keys are the caller's to find, who
// knows which objects matter. Throws InvalidJson or JsonTooDeep. Not thread-safe.
//
//   reader.enter_object();
//   while (reader.next_key(key)) { reader.skip_value(); }
//   reader.expect_end();
class JsonReader {
 public:
  static constexpr std::size_t max_depth = 64;

  explicit JsonReader(std::string_view text) noexcept : text_(text) {}

  // The kind of the value that comes next.
  [[nodiscard]] JsonKind peek();

  void enter_object();
  // Reads the next key and its colon; false at the end of the object, which it leaves.
  bool next_key(std::string& key);
  void enter_array();
  // Whether another element follows; at the end of the array it leaves it.
  bool next_element();

  void read_string(std::string& value);
  // The value, if the number is written as an integer without sign, fraction or exponent and fits.
  [[nodiscard]] std::optional<std::uint64_t> read_unsigned();
  void skip_value();
  // Nothing but white space may follow.
  void expect_end();

 private:
  [[noreturn]] void fail(const char* expected) const;
  void skip_space() noexcept;
  [[nodiscard]] bool at(char wanted) const noexcept;
  void expect(char wanted, const char* expected);
  void expect_word(std::string_view word);
  void push();
  // Handles the comma before an element, or the closing character.
  bool next_item(char closing);
  std::size_t skip_digits();
  void read_escape(std::string& value);
  std::uint32_t read_hex4();

  std::string_view text_;
  std::size_t position_ = 0;
  std::size_t depth_ = 0;
  // For each container that is open: whether it has had an item.
  std::array<bool, max_depth> started_{};
};

}  // namespace pipelined::weights
