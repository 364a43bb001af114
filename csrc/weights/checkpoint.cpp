#include "weights/checkpoint.hpp"

#include <utility>

#include "weights/checkpoint_file.hpp"

namespace pipelined::weights {

Checkpoint Checkpoint::open(const std::string& path) {
  CheckpointFile opened = CheckpointFile::open(path);
  auto arena = std::make_shared<HostArena>(std::move(opened.file), opened.data_begin);
  return {path, std::move(opened.header), std::move(arena)};
}

}  // namespace pipelined::weights
