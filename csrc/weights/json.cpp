#include "weights/json.hpp"

#include <charconv>
#include <system_error>

#include "weights/errors.hpp"
#include "weights/utf8.hpp"

namespace pipelined::weights {
namespace {

constexpr bool is_digit(char character) noexcept { return character >= '0' && character <= '9'; }

constexpr bool is_high_surrogate(std::uint32_t unit) noexcept {
  return unit >= 0xD800 && unit <= 0xDBFF;
}

constexpr bool is_low_surrogate(std::uint32_t unit) noexcept {
  return unit >= 0xDC00 && unit <= 0xDFFF;
}

}  // namespace

void JsonReader::fail(const char* expected) const {
  throw InvalidJson("the header is not valid JSON: expected " + std::string(expected) +
                    " at byte " + std::to_string(position_));
}

void JsonReader::skip_space() noexcept {
  while (position_ < text_.size()) {
    const char character = text_[position_];
    if (character != ' ' && character != '\n' && character != '\t' && character != '\r') {
      return;
    }
    ++position_;
  }
}

bool JsonReader::at(char wanted) const noexcept {
  return position_ < text_.size() && text_[position_] == wanted;
}

void JsonReader::expect(char wanted, const char* expected) {
  if (!at(wanted)) {
    fail(expected);
  }
  ++position_;
}

void JsonReader::expect_word(std::string_view word) {
  if (text_.substr(position_, word.size()) != word) {
    fail("a value");
  }
  position_ += word.size();
}

JsonKind JsonReader::peek() {
  skip_space();
  if (position_ == text_.size()) {
    fail("a value");
  }
  switch (text_[position_]) {
    case '{':
      return JsonKind::object;
    case '[':
      return JsonKind::array;
    case '"':
      return JsonKind::string;
    case 't':
    case 'f':
      return JsonKind::boolean;
    case 'n':
      return JsonKind::null;
    default:
      if (at('-') || is_digit(text_[position_])) {
        return JsonKind::number;
      }
      fail("a value");
  }
}

void JsonReader::push() {
  if (depth_ == max_depth) {
    throw JsonTooDeep("the header is nested more than " + std::to_string(max_depth) +
                      " levels deep at byte " + std::to_string(position_));
  }
  started_.at(depth_++) = false;
}

bool JsonReader::next_item(char closing) {
  skip_space();
  bool& started = started_.at(depth_ - 1);
  if (at(closing)) {
    ++position_;
    --depth_;
    return false;
  }
  if (started) {
    expect(',', "a comma or the end of the object or array");
    skip_space();
  }
  started = true;
  return true;
}

void JsonReader::enter_object() {
  skip_space();
  expect('{', "an object");
  push();
}

bool JsonReader::next_key(std::string& key) {
  if (!next_item('}')) {
    return false;
  }
  read_string(key);
  skip_space();
  expect(':', "a colon");
  return true;
}

void JsonReader::enter_array() {
  skip_space();
  expect('[', "an array");
  push();
}

bool JsonReader::next_element() { return next_item(']'); }

void JsonReader::read_string(std::string& value) {
  skip_space();
  expect('"', "a string");
  value.clear();
  for (;;) {
    const std::size_t begin = position_;
    while (position_ < text_.size() && text_[position_] != '"' && text_[position_] != '\\' &&
           static_cast<unsigned char>(text_[position_]) >= 0x20) {
      ++position_;
    }
    value.append(text_, begin, position_ - begin);
    if (at('"')) {
      ++position_;
      return;
    }
    if (!at('\\')) {
      fail("the end of a string");
    }
    ++position_;
    read_escape(value);
  }
}

void JsonReader::read_escape(std::string& value) {
  if (position_ == text_.size()) {
    fail("an escaped character");
  }
  switch (text_[position_++]) {
    case '"':
      value += '"';
      return;
    case '\\':
      value += '\\';
      return;
    case '/':
      value += '/';
      return;
    case 'b':
      value += '\b';
      return;
    case 'f':
      value += '\f';
      return;
    case 'n':
      value += '\n';
      return;
    case 'r':
      value += '\r';
      return;
    case 't':
      value += '\t';
      return;
    case 'u':
      break;
    default:
      --position_;
      fail("an escaped character");
  }
  std::uint32_t code_point = read_hex4();
  if (is_low_surrogate(code_point)) {
    fail("a high surrogate before a low one");
  }
  if (is_high_surrogate(code_point)) {
    expect('\\', "a low surrogate after a high one");
    expect('u', "a low surrogate after a high one");
    const std::uint32_t low = read_hex4();
    if (!is_low_surrogate(low)) {
      fail("a low surrogate after a high one");
    }
    code_point = 0x10000U + ((code_point - 0xD800U) << 10U) + (low - 0xDC00U);
  }
  append_utf8(value, code_point);
}

std::uint32_t JsonReader::read_hex4() {
  const std::string_view digits = text_.substr(position_, 4);
  std::uint32_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (digits.size() != 4 || error != std::errc{} || end != digits.data() + digits.size()) {
    fail("four hexadecimal digits");
  }
  position_ += 4;
  return value;
}

std::size_t JsonReader::skip_digits() {
  const std::size_t begin = position_;
  while (position_ < text_.size() && is_digit(text_[position_])) {
    ++position_;
  }
  if (position_ == begin) {
    fail("a digit");
  }
  return position_ - begin;
}

std::optional<std::uint64_t> JsonReader::read_unsigned() {
  skip_space();
  const std::size_t begin = position_;
  bool integer = true;
  if (at('-')) {
    integer = false;
    ++position_;
  }
  const bool leading_zero = at('0');
  if (skip_digits() > 1 && leading_zero) {
    position_ = begin;
    fail("a number without leading zeros");
  }
  if (at('.')) {
    integer = false;
    ++position_;
    skip_digits();
  }
  if (at('e') || at('E')) {
    integer = false;
    ++position_;
    if (at('+') || at('-')) {
      ++position_;
    }
    skip_digits();
  }
  if (!integer) {
    return std::nullopt;
  }
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text_.data() + begin, text_.data() + position_, value);
  if (error != std::errc{}) {
    return std::nullopt;
  }
  return value;
}

void JsonReader::skip_value() {
  std::string ignored;
  switch (peek()) {
    case JsonKind::object:
      enter_object();
      while (next_key(ignored)) {
        skip_value();
      }
      return;
    case JsonKind::array:
      enter_array();
      while (next_element()) {
        skip_value();
      }
      return;
    case JsonKind::string:
      read_string(ignored);
      return;
    case JsonKind::number:
      static_cast<void>(read_unsigned());
      return;
    case JsonKind::boolean:
      expect_word(at('t') ? "true" : "false");
      return;
    case JsonKind::null:
      expect_word("null");
      return;
  }
}

void JsonReader::expect_end() {
  skip_space();
  if (position_ != text_.size()) {
    fail("the end of the header");
  }
}

}  // namespace pipelined::weights
