#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "weights/file.hpp"

namespace pipelined::weights {

// What is behind a page of a file that is mapped privately.
enum class PageKind : std::uint8_t {
  absent,        // nothing: the file's page is mapped when it is touched
  file,          // the file's page, in memory, which others may share
  copy,          // this process's own, because it was written to; nowhere else
  swapped_copy,  // the same, but it is in the swap area
};

// Whether the file could not bring the page back.
[[nodiscard]] constexpr bool is_copy(PageKind kind) noexcept {
  return kind == PageKind::copy || kind == PageKind::swapped_copy;
}

struct PageRun {
  std::byte* begin = nullptr;
  // A multiple of the page's size.
  std::size_t bytes = 0;
  PageKind kind = PageKind::absent;
};

// The kernel's own account of which pages of private file mappings were written to, read from
// /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst): touches no page, and so faults on
// none. It is about the process that made it, and about the instant at which it was asked.
class PageMap {
 public:
  // Throws IoError where the kernel keeps no such account, or none that can be believed.
  PageMap();

  // All pages that have a byte of the range, in order, those of a kind that follow one another
  // together. Throws IoError.
  [[nodiscard]] std::vector<PageRun> runs(std::span<std::byte> range) const;
  // Whether no page that has a byte of the range was written to.
  [[nodiscard]] bool untouched(std::span<std::byte> range) const;

 private:
  File file_;
};

}  // namespace pipelined::weights
