#include "weights/page_map.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>

#include "weights/errors.hpp"
#include "weights/mapping.hpp"

namespace pipelined::weights {
namespace {

constexpr const char* path = "/proc/self/pagemap";

using Entry = std::uint64_t;
constexpr Entry is_present = Entry{1} << 63U;
constexpr Entry is_swapped = Entry{1} << 62U;
// Of a file, or of memory that processes share, which no private mapping has. A page that is being
// moved to another place in memory counts as swapped, and keeps this bit.
constexpr Entry is_of_file = Entry{1} << 61U;

PageKind kind_of(Entry entry) noexcept {
  if ((entry & is_of_file) != 0) {
    return PageKind::file;
  }
  if ((entry & is_present) != 0) {
    return PageKind::copy;
  }
  return (entry & is_swapped) != 0 ? PageKind::swapped_copy : PageKind::absent;
}

// Calls visit(page, kind) for each page that has a byte of the range, until it returns false.
template <typename Visit>
void visit_pages(const File& file, std::span<std::byte> range, Visit visit) {
  const std::size_t page = Mapping::page_bytes();
  const auto address = std::bit_cast<std::uintptr_t>(range.data());
  const std::uintptr_t first = address / page;
  std::byte* begin = range.data() - address % page;
  std::size_t left = range.empty() ? 0 : (address + range.size() + page - 1) / page - first;
  std::uint64_t offset = first * sizeof(Entry);
  std::array<Entry, 4096> entries{};
  while (left != 0) {
    const std::span part = std::span(entries).first(std::min(left, entries.size()));
    try {
      file.read_exactly(std::as_writable_bytes(part), offset);
    } catch (const TruncatedFile&) {
      // No address of the process is beyond the end.
      throw IoError("read", path, EINVAL);
    }
    for (const Entry entry : part) {
      if (!visit(begin, kind_of(entry))) {
        return;
      }
      begin += page;
    }
    offset += part.size_bytes();
    left -= part.size();
  }
}

}  // namespace

PageMap::PageMap() : file_(File::open(path)) {
  // Whoever believed an account of zeros, as a sandbox may give, would throw changes away. The page
  // of this variable is in memory, and no file's.
  std::byte written{1};
  if (untouched({&written, 1})) {
    throw IoError("read", path, ENOTSUP);
  }
}

std::vector<PageRun> PageMap::runs(std::span<std::byte> range) const {
  std::vector<PageRun> runs;
  visit_pages(file_, range, [&](std::byte* page, PageKind kind) {
    if (runs.empty() || runs.back().kind != kind) {
      runs.push_back({.begin = page, .bytes = 0, .kind = kind});
    }
    runs.back().bytes += Mapping::page_bytes();
    return true;
  });
  return runs;
}

bool PageMap::untouched(std::span<std::byte> range) const {
  bool untouched = true;
  visit_pages(file_, range, [&](std::byte*, PageKind kind) {
    untouched = !is_copy(kind);
    return untouched;
  });
  return untouched;
}

}  // namespace pipelined::weights
