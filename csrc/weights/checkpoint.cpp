#include "weights/checkpoint.hpp"

#include <utility>

namespace pipelined::weights {

Checkpoint Checkpoint::open(const std::string& path) {
  CheckpointFile opened = CheckpointFile::open(path);
  auto arena = std::make_shared<HostArena>(std::move(opened.file), opened.data_begin);
  return {path, std::move(opened.header), std::move(arena)};
}

CheckpointFile Checkpoint::reopened() const {
  return {arena->file().duplicate(), header, arena->data_begin()};
}

}  // namespace pipelined::weights
