#include "weights/host_arena.hpp"

#include <utility>

namespace pipelined::weights {
namespace {

Source probe(const File& file, const Mapping& mapping) noexcept {
  if (!file.shows_residency()) {
    return Source::unknown;
  }
  return mapping.sample_resident() ? Source::page_cache : Source::disk;
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
      population_(file_, mapping_, data_begin, file_.size() - data_begin, source_) {}

}  // namespace pipelined::weights
