#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "weights/file.hpp"
#include "weights/mapping_registry.hpp"

namespace pipelined::weights {

// A whole file mapped privately and writable: its pages are shared with the page cache, and with
// every other process that maps the file, until somebody writes to one and gets a copy of it. What
// is written never reaches the file.
//
// Only the consumer touches the bytes. The members below ask the kernel instead, which answers with
// an error where touching would raise SIGBUS. They may be called from several threads at once.
class Mapping {
 public:
  // The file must not be empty. Throws IoError.
  explicit Mapping(const File& file);
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  Mapping(Mapping&&) = delete;
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping();

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  // Reads the pages of a range into memory and maps them, read-only until they are written to.
  // The offset must be a multiple of page_bytes(). Returns 0 or an errno: EINVAL on a kernel before
  // 5.14, EFAULT where the file ends before the range does.
  [[nodiscard]] int populate(std::size_t offset, std::size_t length) const noexcept;

  // Unmaps the pages of a range; who touches one has the file's. What was written to one is lost.
  // The offset must be a multiple of page_bytes(). Returns 0 or an errno.
  [[nodiscard]] int give_back(std::size_t offset, std::size_t length) const noexcept;

  // Whether a sample of pages from all over the mapping is in memory. The cost, a fraction of a
  // millisecond, does not grow with the file.
  [[nodiscard]] bool sample_resident() const noexcept;

  [[nodiscard]] static std::size_t page_bytes() noexcept;

 private:
  // For whoever has to say which file it was that changed.
  MappingRegistry::Place place_;
  std::string path_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace pipelined::weights
