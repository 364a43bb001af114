#pragma once

#include <cstddef>

namespace pipelined::weights {

// Whether all pages that a range of addresses lies in, part of a private mapping of a file, are
// still the file's: none was written to and so became a copy of its own. Pages at the ends may hold
// more than the range. Asks the kernel, in whatever process calls: nothing is touched. Thread-safe;
// what other threads write meanwhile may or may not be seen.
//
// Throws IoError where /proc/self/pagemap cannot be read.
[[nodiscard]] bool pages_are_the_files(const void* begin, std::size_t bytes);

}  // namespace pipelined::weights
