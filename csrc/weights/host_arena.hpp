#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "weights/file.hpp"
#include "weights/mapping.hpp"
#include "weights/population.hpp"
#include "weights/progress.hpp"

namespace pipelined::weights {

[[nodiscard]] std::string_view source_name(Source source) noexcept;

// The memory of one checkpoint on the CPU: the file, mapped copy-on-write, and the threads that
// read it ahead. Its bytes may be handed out at once; whoever uses them holds a reference on the
// arena (std::shared_ptr) for as long as he does. Address and size never change. Thread-safe.
class HostArena {
 public:
  // The tensors' bytes begin at data_begin. Throws IoError.
  HostArena(File file, std::uint64_t data_begin);

  // The address of a byte of the tensors. Writing through it changes this mapping only.
  [[nodiscard]] std::byte* at(std::uint64_t offset) const noexcept {
    return mapping_.data() + data_begin_ + offset;
  }
  [[nodiscard]] const std::shared_ptr<Progress>& progress() const noexcept {
    return population_.progress();
  }
  [[nodiscard]] Source source() const noexcept { return source_; }

  // Begins to read everything into memory; does nothing where that has begun.
  void populate() { population_.start(); }

 private:
  // In this order: the population is stopped before the mapping goes, and that before the file.
  File file_;
  Mapping mapping_;
  std::uint64_t data_begin_;
  Source source_;
  Population population_;
};

}  // namespace pipelined::weights
