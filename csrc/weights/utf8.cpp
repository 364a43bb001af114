#include "weights/utf8.hpp"

#include <cstring>

namespace pipelined::weights {
namespace {

constexpr std::uint64_t high_bits = 0x8080808080808080U;

// What may follow a lead byte. The second byte has limits of its own, which is how overlong forms,
// surrogates and code points beyond the last are kept out; the rest lie in 0x80..0xBF.
struct Sequence {
  std::size_t length;
  unsigned char second_low;
  unsigned char second_high;
};

constexpr Sequence sequence_of(unsigned char lead) noexcept {
  if (lead >= 0xC2 && lead <= 0xDF) {
    return {2, 0x80, 0xBF};
  }
  if (lead == 0xE0) {
    return {3, 0xA0, 0xBF};
  }
  if (lead == 0xED) {
    return {3, 0x80, 0x9F};
  }
  if (lead >= 0xE1 && lead <= 0xEF) {
    return {3, 0x80, 0xBF};
  }
  if (lead == 0xF0) {
    return {4, 0x90, 0xBF};
  }
  if (lead >= 0xF1 && lead <= 0xF3) {
    return {4, 0x80, 0xBF};
  }
  if (lead == 0xF4) {
    return {4, 0x80, 0x8F};
  }
  return {0, 0, 0};
}

}  // namespace

std::size_t first_invalid_utf8(std::string_view text) noexcept {
  const auto byte = [text](std::size_t index) { return static_cast<unsigned char>(text[index]); };
  std::size_t position = 0;
  while (position < text.size()) {
    // Headers are nearly always ASCII: eight bytes at a time.
    if (text.size() - position >= sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, text.data() + position, sizeof(word));
      if ((word & high_bits) == 0) {
        position += sizeof(word);
        continue;
      }
    }
    if (byte(position) < 0x80) {
      ++position;
      continue;
    }
    const auto [length, low, high] = sequence_of(byte(position));
    if (length == 0 || text.size() - position < length) {
      return position;
    }
    if (byte(position + 1) < low || byte(position + 1) > high) {
      return position;
    }
    for (std::size_t index = 2; index < length; ++index) {
      if ((byte(position + index) & 0xC0U) != 0x80U) {
        return position;
      }
    }
    position += length;
  }
  return text.size();
}

void append_utf8(std::string& text, std::uint32_t code_point) {
  const auto continuation = [code_point](unsigned shift) {
    return static_cast<char>(0x80U | ((code_point >> shift) & 0x3FU));
  };
  if (code_point < 0x80) {
    text += static_cast<char>(code_point);
  } else if (code_point < 0x800) {
    text += static_cast<char>(0xC0U | (code_point >> 6U));
    text += continuation(0);
  } else if (code_point < 0x10000) {
    text += static_cast<char>(0xE0U | (code_point >> 12U));
    text += continuation(6);
    text += continuation(0);
  } else {
    text += static_cast<char>(0xF0U | (code_point >> 18U));
    text += continuation(12);
    text += continuation(6);
    text += continuation(0);
  }
}

}  // namespace pipelined::weights
