#include "weights/host_arena.hpp"

#include <utility>

namespace pipelined::weights {
namespace {

// Files are cached or evicted in long runs, so a share in between is rare; a file of which a tenth
// is missing will be waited for like any that comes from disk.
constexpr double cached_share = 0.9;

Source probe(const File& file, const Mapping& mapping) noexcept {
  if (!file.shows_residency()) {
    return Source::unknown;
  }
  const double share = mapping.resident_share();
  if (share < 0) {
    return Source::unknown;
  }
  return share >= cached_share ? Source::page_cache : Source::disk;
}

}  // namespace

std::string_view source_name(Source source) noexcept {
  switch (source) {
    case Source::disk:
      return "disk";
    case Source::page_cache:
      return "page cache";
    case Source::unknown:
      break;
  }
  return "unknown";
}

HostArena::HostArena(File file, std::uint64_t data_begin)
    : file_(std::move(file)),
      mapping_(file_),
      data_begin_(data_begin),
      source_(probe(file_, mapping_)),
      population_(file_, mapping_, data_begin, file_.size() - data_begin) {}

}  // namespace pipelined::weights
