#include "weights/checkpoint.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "weights/errors.hpp"
#include "weights/file.hpp"

namespace pipelined::weights {
namespace {

Checkpoint read(File file) {
  std::array<std::byte, header_length_bytes> prefix{};
  if (file.size() >= prefix.size()) {
    file.read_exactly(prefix, 0);
  }
  const std::uint64_t length = parse_header_length(prefix, file.size());
  std::string json(length, '\0');
  file.read_exactly(std::as_writable_bytes(std::span(json)), header_length_bytes);
  const std::uint64_t data_begin = header_length_bytes + length;
  auto header = std::make_shared<const Header>(Header::parse(json, file.size() - data_begin));
  std::string path = file.path();
  auto arena = std::make_shared<HostArena>(std::move(file), data_begin);
  return {std::move(path), std::move(header), std::move(arena)};
}

}  // namespace

Checkpoint Checkpoint::open(const std::string& path) {
  try {
    return read(File::open(path));
  } catch (FormatError& error) {
    error.in_file(path);
    throw;
  }
}

}  // namespace pipelined::weights
