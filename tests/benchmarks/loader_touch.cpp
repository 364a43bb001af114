// Touches every page of tensors, the same for every loader.

#include <cstddef>
#include <cstdint>

extern "C" std::uint64_t touch(const std::uint64_t* addresses, const std::uint64_t* sizes,
                               std::size_t count) {
  // At most as far apart as the smallest pages are, and the last byte too.
  constexpr std::uint64_t step = 4096;
  std::uint64_t sum = 0;
  for (std::size_t index = 0; index < count; ++index) {
    // The address comes as an integer from Python.
    // NOLINTNEXTLINE(performance-no-int-to-ptr,cppcoreguidelines-pro-type-reinterpret-cast)
    const auto* const bytes = reinterpret_cast<const volatile unsigned char*>(addresses[index]);
    for (std::uint64_t offset = 0; offset < sizes[index]; offset += step) {
      sum += bytes[offset];
    }
    if (sizes[index] > 0) {
      sum += bytes[sizes[index] - 1];
    }
  }
  return sum;
}
