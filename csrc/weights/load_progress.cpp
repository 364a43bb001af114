#include "weights/load_progress.hpp"

namespace pipelined::weights {

LoadProgress::LoadProgress(std::span<const CheckpointFile> files, std::span<const Chunk> chunks) {
  for (const CheckpointFile& file : files) {
    const std::uint64_t bytes = file.header->data_bytes();
    files_.push_back(std::make_shared<Progress>(bytes));
    if (bytes == 0) {
      files_.back()->add(0);
    }
    missing_.emplace_back(file.header->tensors().size());
    total_bytes_ += bytes;
    total_tensors_ += file.header->tensors().size();
    for (const TensorInfo& tensor : file.header->tensors()) {
      loaded_tensors_ += tensor.bytes() == 0 ? 1U : 0U;
    }
  }
  for (const Chunk& chunk : chunks) {
    for (std::size_t tensor = chunk.first_tensor; tensor < chunk.end_tensor; ++tensor) {
      ++missing_[chunk.file][tensor];
    }
  }
  // Tensors without bytes that lie between those of a chunk were there from the start.
  for (std::size_t file = 0; file < files.size(); ++file) {
    for (std::size_t tensor = 0; tensor < missing_[file].size(); ++tensor) {
      if (files[file].header->tensors()[tensor].bytes() == 0) {
        missing_[file][tensor] = 0;
      }
    }
  }
}

void LoadProgress::arrived(const Chunk& chunk) noexcept {
  files_[chunk.file]->add(chunk.file_bytes);
  loaded_bytes_ += chunk.file_bytes;
  for (std::size_t tensor = chunk.first_tensor; tensor < chunk.end_tensor; ++tensor) {
    std::uint32_t& missing = missing_[chunk.file][tensor];
    if (missing != 0) {
      --missing;
      loaded_tensors_ += missing == 0 ? 1U : 0U;
    }
  }
}

}  // namespace pipelined::weights
