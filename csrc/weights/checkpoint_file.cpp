#include "weights/checkpoint_file.hpp"

#include <array>
#include <cstddef>
#include <span>
#include <utility>

#include "weights/errors.hpp"

namespace pipelined::weights {
namespace {

CheckpointFile read(File file) {
  std::array<std::byte, header_length_bytes> prefix{};
  if (file.size() >= prefix.size()) {
    file.read_exactly(prefix, 0);
  }
  const std::uint64_t length = parse_header_length(prefix, file.size());
  std::string json(length, '\0');
  file.read_exactly(std::as_writable_bytes(std::span(json)), header_length_bytes);
  const std::uint64_t data_begin = header_length_bytes + length;
  auto header = std::make_shared<const Header>(Header::parse(json, file.size() - data_begin));
  return {std::move(file), std::move(header), data_begin};
}

}  // namespace

CheckpointFile CheckpointFile::open(const std::string& path) {
  try {
    return read(File::open(path));
  } catch (FormatError& error) {
    error.in_file(path);
    throw;
  }
}

std::vector<CheckpointFile> CheckpointFile::open(std::span<const std::string> paths) {
  std::vector<CheckpointFile> files;
  files.reserve(paths.size());
  for (const std::string& path : paths) {
    files.push_back(open(path));
  }
  return files;
}

}  // namespace pipelined::weights
