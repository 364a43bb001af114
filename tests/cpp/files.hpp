#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace pipelined::testing {

// Writes a file anew and returns its path.
inline std::string write_file(const std::filesystem::path& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.exceptions(std::ios::failbit | std::ios::badbit);
  file << content;
  file.close();
  return path.string();
}

// The bytes of a safetensors file with this header, right or wrong.
inline std::string with_header(std::string_view json, std::string_view data = {}) {
  std::string content;
  for (unsigned shift = 0; shift < 64; shift += 8) {
    content += static_cast<char>(static_cast<std::uint64_t>(json.size()) >> shift);
  }
  return content.append(json).append(data);
}

// A content in which every 4 KiB differ.
inline std::string numbered(std::size_t bytes) {
  std::string content(bytes, '\0');
  for (std::size_t index = 0; index < bytes; ++index) {
    content[index] = static_cast<char>(index * 31 + index / 4096 * 7);
  }
  return content;
}

// A sparse file of zeros: takes no disk, and is not in the page cache.
inline std::string write_zeros(const std::filesystem::path& path, std::uintmax_t bytes) {
  write_file(path, "");
  std::filesystem::resize_file(path, bytes);
  return path.string();
}

}  // namespace pipelined::testing
