#include "weights/page_map.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "weights/file.hpp"
#include "weights/mapping.hpp"

namespace pipelined::weights {
namespace {

// Of an entry, in Documentation/admin-guide/mm/pagemap.rst of the kernel.
constexpr std::uint64_t present = std::uint64_t{1} << 63U;
constexpr std::uint64_t swapped = std::uint64_t{1} << 62U;
constexpr std::uint64_t of_file = std::uint64_t{1} << 61U;

bool is_private_copy(std::uint64_t entry) noexcept {
  return (entry & (present | swapped)) != 0 && (entry & of_file) == 0;
}

}  // namespace

bool pages_are_the_files(const void* begin, std::size_t bytes) {
  if (bytes == 0) {
    return true;
  }
  // Opened anew each time: an open one would go on telling of the process that opened it.
  const File map = File::open("/proc/self/pagemap");
  const auto address = reinterpret_cast<std::uintptr_t>(begin);  // NOLINT(*-reinterpret-cast)
  std::uint64_t page = address / Mapping::page_bytes();
  const std::uint64_t end = (address + bytes - 1) / Mapping::page_bytes() + 1;
  std::array<std::uint64_t, 512> entries{};
  while (page < end) {
    const auto count =
        static_cast<std::size_t>(std::min<std::uint64_t>(end - page, entries.size()));
    const std::span some = std::span(entries).first(count);
    map.read_exactly(std::as_writable_bytes(some), page * sizeof(std::uint64_t));
    if (std::ranges::any_of(some, is_private_copy)) {
      return false;
    }
    page += count;
  }
  return true;
}

}  // namespace pipelined::weights
