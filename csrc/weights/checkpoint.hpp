#pragma once

#include <memory>
#include <string>

#include "weights/checkpoint_file.hpp"
#include "weights/header.hpp"
#include "weights/host_arena.hpp"

namespace pipelined::weights {

// One safetensors file, opened and validated: what is in it, and the memory it is in. Immutable but
// for the population's progress; copies share the header and the arena. Thread-safe.
struct Checkpoint {
  std::string path;
  std::shared_ptr<const Header> header;
  std::shared_ptr<HostArena> arena;

  // Throws IoError, or the FormatError that names the fault, with the path filled in.
  static Checkpoint open(const std::string& path);

  // The very file that is mapped, whatever its path names by now, for another way to read it.
  // Throws IoError.
  [[nodiscard]] CheckpointFile reopened() const;
};

}  // namespace pipelined::weights
