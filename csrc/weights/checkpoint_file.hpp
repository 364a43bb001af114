#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "weights/file.hpp"
#include "weights/header.hpp"

namespace pipelined::weights {

// A safetensors file that is open and whose header was checked. Nothing of its tensors has been
// read. Movable; the members may be read from several threads at once.
struct CheckpointFile {
  File file;
  std::shared_ptr<const Header> header;
  // Where the tensors' bytes begin in the file.
  std::uint64_t data_begin = 0;

  // Throws IoError, or the FormatError that names the fault, with the path filled in.
  static CheckpointFile open(const std::string& path);
  static std::vector<CheckpointFile> open(std::span<const std::string> paths);
};

}  // namespace pipelined::weights
