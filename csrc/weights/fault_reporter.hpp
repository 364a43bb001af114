#pragma once

#include <string_view>

namespace pipelined::weights {

// From now on, where a thread touches a byte of a mapped weights file that its file no longer has
// (somebody cut it short) or that cannot be read, a line that names the file is written to the
// descriptor, after the prefix:
//
//   weights file /models/unet.safetensors changed while it was mapped: byte 4096 cannot be read
//
// Then the signal, SIGBUS, does what it would have done before. Every other SIGBUS is none of ours,
// and does that at once.
//
// The descriptor stays the caller's and must stay open. A second call only changes what is written
// and where. Of a handler that somebody installs later, ours is the previous one. Process-wide;
// thread-safe. Throws IoError.
void report_faults(int descriptor, std::string_view prefix);

}  // namespace pipelined::weights
