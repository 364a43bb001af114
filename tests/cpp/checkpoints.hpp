#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "files.hpp"
#include "weights/cuda/device_checkpoint.hpp"

namespace pipelined::testing {

// The header of tensors of bytes, t0, t1 and so on, of these sizes.
inline std::string header_of(std::span<const std::size_t> sizes, std::size_t padding = 0) {
  std::string json = "{";
  std::size_t begin = 0;
  for (std::size_t index = 0; index < sizes.size(); ++index) {
    const std::size_t end = begin + sizes[index];
    json += std::string(index == 0 ? "" : ",") + "\"t" + std::to_string(index) +
            R"(":{"dtype":"U8","shape":[)" + std::to_string(sizes[index]) +
            R"(],"data_offsets":[)" + std::to_string(begin) + "," + std::to_string(end) + "]}";
    begin = end;
  }
  return json + "}" + std::string(padding, ' ');
}

// A file of such tensors, the bytes of which differ throughout.
inline std::string write_checkpoint(const std::filesystem::path& path,
                                    std::span<const std::size_t> sizes, std::size_t padding = 0) {
  std::size_t total = 0;
  for (const std::size_t size : sizes) {
    total += size;
  }
  return write_file(path, with_header(header_of(sizes, padding), numbered(total)));
}

// Whether the device holds what write_checkpoint() wrote for one of its files.
inline bool holds(weights::cuda::DeviceCheckpoint& loaded, std::size_t file = 0) {
  const weights::CheckpointFile& opened = loaded.files()[file];
  const std::string expected = numbered(opened.header->data_bytes());
  for (std::size_t index = 0; index < opened.header->tensors().size(); ++index) {
    const weights::TensorInfo& tensor = opened.header->tensors()[index];
    std::string actual(tensor.bytes(), '\0');
    loaded.read_back(file, index, std::as_writable_bytes(std::span(actual)));
    if (actual != expected.substr(tensor.begin, tensor.bytes())) {
      return false;
    }
  }
  return true;
}

}  // namespace pipelined::testing
