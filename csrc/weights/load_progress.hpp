#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "weights/checkpoint_file.hpp"
#include "weights/plan.hpp"
#include "weights/progress.hpp"

namespace pipelined::weights {

// How far a load of several files has got: bytes of each file, and whole tensors. The counts of
// tensors are the caller's to guard; each file's progress may be read by anybody at any time.
class LoadProgress {
 public:
  LoadProgress(std::span<const CheckpointFile> files, std::span<const Chunk> chunks);

  // A chunk is where it should be.
  void arrived(const Chunk& chunk) noexcept;

  [[nodiscard]] const std::vector<std::shared_ptr<Progress>>& files() const noexcept {
    return files_;
  }
  [[nodiscard]] std::uint64_t loaded_bytes() const noexcept { return loaded_bytes_; }
  [[nodiscard]] std::uint64_t total_bytes() const noexcept { return total_bytes_; }
  [[nodiscard]] std::size_t loaded_tensors() const noexcept { return loaded_tensors_; }
  [[nodiscard]] std::size_t total_tensors() const noexcept { return total_tensors_; }

 private:
  std::vector<std::shared_ptr<Progress>> files_;
  // Of each tensor of each file, the chunks that are still missing.
  std::vector<std::vector<std::uint32_t>> missing_;
  std::uint64_t loaded_bytes_ = 0;
  std::uint64_t total_bytes_ = 0;
  std::size_t loaded_tensors_ = 0;
  std::size_t total_tensors_ = 0;
};

}  // namespace pipelined::weights
