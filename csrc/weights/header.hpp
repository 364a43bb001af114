#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "weights/dtype.hpp"

namespace pipelined::weights {

// A safetensors file is
//
//   8 bytes     length N of the header, little-endian
//   N bytes     header: JSON in UTF-8, starting with '{'; white space may follow the object
//   the rest    the tensors' bytes
//
//   {"__metadata__": {"key": "value", …},
//    "name": {"dtype": "F16", "shape": [320, 4, 3, 3], "data_offsets": [begin, end]}, …}
//
// Offsets count from the end of the header. The tensors cover the rest of the file exactly, without
// holes and without sharing a byte. Nothing is said about alignment.

inline constexpr std::size_t header_length_bytes = 8;
inline constexpr std::uint64_t max_header_bytes = 100'000'000;
// The format has no limit; without one, a hostile header could make the reader hold eight bytes of
// dimension for each two bytes of text. NumPy allows 64.
inline constexpr std::size_t max_rank = 1024;

struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::u8;
  // Every dimension, and every product of leading dimensions, fits in a signed 64-bit integer.
  std::vector<std::int64_t> shape;
  // Where the bytes lie, counted from the end of the header.
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  [[nodiscard]] std::uint64_t bytes() const noexcept { return end - begin; }
};

using Metadata = std::vector<std::pair<std::string, std::string>>;

// Reads the length of the header from the first bytes of a file.
// Throws HeaderTooSmall, HeaderTooLarge or HeaderTruncated.
[[nodiscard]] std::uint64_t parse_header_length(
    const std::array<std::byte, header_length_bytes>& prefix, std::uint64_t file_bytes);

// A header that was checked completely: whoever holds one may trust every offset in it.
// Immutable, hence safe to read from any thread.
class Header {
 public:
  // Parses the JSON of a file whose tensors take data_bytes. Does no I/O.
  // Throws the subclass of FormatError that names the fault.
  static Header parse(std::string_view json, std::uint64_t data_bytes);

  // In the order in which they lie in the file; equal offsets in the order of the header.
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const noexcept { return tensors_; }
  // Indexes into tensors(), ordered by name (bytewise, which for UTF-8 is by code point).
  [[nodiscard]] const std::vector<std::size_t>& by_name() const noexcept { return by_name_; }
  [[nodiscard]] const TensorInfo* find(std::string_view name) const noexcept;
  // Nothing where the header has none.
  [[nodiscard]] const std::optional<Metadata>& metadata() const noexcept { return metadata_; }
  [[nodiscard]] std::uint64_t data_bytes() const noexcept { return data_bytes_; }

 private:
  Header() = default;
  void order_by_name();
  void order_by_offset();
  void check_coverage() const;

  std::vector<TensorInfo> tensors_;
  std::vector<std::size_t> by_name_;
  std::optional<Metadata> metadata_;
  std::uint64_t data_bytes_ = 0;
};

}  // namespace pipelined::weights
