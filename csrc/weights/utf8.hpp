#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pipelined::weights {

// Whether the text is well-formed UTF-8 as RFC 3629 has it: no overlong forms, no surrogates,
// nothing above U+10FFFF. Returns the position of the first byte of the first bad sequence, or
// text.size() where there is none. Pure, linear.
[[nodiscard]] std::size_t first_invalid_utf8(std::string_view text) noexcept;

// Appends a code point, which must be at most U+10FFFF and no surrogate.
void append_utf8(std::string& text, std::uint32_t code_point);

}  // namespace pipelined::weights
