#pragma once

#include <cstddef>

#include "weights/cuda/driver_types.hpp"

// The functions that the library exports, declared from the list that the loader's table is made
// of: a definition with another signature does not compile, and one that is missing does not link.
#pragma GCC visibility push(default)
namespace fake_cuda {
template <typename Signature>
using Exported = Signature;
}  // namespace fake_cuda

using namespace pipelined::weights::cuda;

#define FAKE_DECLARE(member, symbol, ...) extern "C" fake_cuda::Exported<__VA_ARGS__> symbol;
PIPELINED_CUDA_FUNCTIONS(FAKE_DECLARE)
#undef FAKE_DECLARE
#pragma GCC visibility pop
