// Feeds whole files to the parser of headers. A file that is taken has to keep what Header
// promises.
//
// Only FormatError may come out; a crash, a hang, a report of a sanitizer or a broken promise ends
// the program, which leaves the input behind.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "weights/errors.hpp"
#include "weights/header.hpp"
#include "weights/json.hpp"
#include "weights/utf8.hpp"

// Of libFuzzer, which has no header. The names are its own.
// NOLINTBEGIN(readability-identifier-naming)
extern "C" {
std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);
std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                    unsigned seed);
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
}
// NOLINTEND(readability-identifier-naming)

namespace {

namespace weights = pipelined::weights;
using weights::header_length_bytes;

void require(bool promise) {
  if (!promise) {
    std::abort();
  }
}

void check_promises(const weights::Header& header) {
  std::uint64_t covered = 0;
  for (const weights::TensorInfo& tensor : header.tensors()) {
    require(tensor.begin == covered && tensor.end >= tensor.begin);
    covered = tensor.end;
    std::uint64_t elements = 1;
    for (const std::int64_t dimension : tensor.shape) {
      require(dimension >= 0);
      elements *= static_cast<std::uint64_t>(dimension);
    }
    require(elements * weights::dtype_bits(tensor.dtype) == tensor.bytes() * 8);
    require(header.find(tensor.name) == &tensor);
    require(weights::first_invalid_utf8(tensor.name) == tensor.name.size());
  }
  require(covered == header.data_bytes());
  require(header.by_name().size() == header.tensors().size());
  for (std::size_t index = 1; index < header.by_name().size(); ++index) {
    require(header.tensors()[header.by_name()[index - 1]].name <
            header.tensors()[header.by_name()[index]].name);
  }
}

// Any JSON, not only what headers have.
void walk(std::string_view text) {
  if (weights::first_invalid_utf8(text) != text.size()) {
    return;
  }
  weights::JsonReader reader(text);
  reader.skip_value();
  reader.expect_end();
}

void parse(std::string_view file) {
  std::array<std::byte, header_length_bytes> prefix{};
  if (file.size() >= prefix.size()) {
    std::memcpy(prefix.data(), file.data(), prefix.size());
  }
  const std::uint64_t length = weights::parse_header_length(prefix, file.size());
  const std::string_view json = file.substr(header_length_bytes, length);
  check_promises(weights::Header::parse(json, file.size() - header_length_bytes - length));
}

template <typename Action>
void refusing(const Action& action) {
  try {
    action();
  } catch (const weights::FormatError& error) {
    require(*error.what() != '\0');
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A copy that ends where the input does, for the sanitizer to guard.
  const std::string file(data, data + size);
  refusing([&file] { parse(file); });
  if (file.size() > header_length_bytes) {
    refusing([&file] { walk(std::string_view(file).substr(header_length_bytes)); });
  }
  return 0;
}

// Mutates the header and makes its length right again, or hardly an input would get past it. Of
// eight inputs one is mutated as it comes.
std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t max_size,
                                    unsigned seed) {
  if (seed % 8 == 0 || size < header_length_bytes || max_size < 2 * header_length_bytes) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
  std::uint64_t length = 0;
  std::memcpy(&length, data, sizeof(length));
  const std::size_t rest = size - header_length_bytes;
  if (length > rest) {
    length = rest;
  }
  // What follows the header keeps its size: the tensors' bytes are never looked at.
  const std::size_t tail = rest - length;
  std::vector<std::uint8_t> header(data + header_length_bytes, data + header_length_bytes + length);
  header.resize(max_size - header_length_bytes - tail);
  const std::size_t now = LLVMFuzzerMutate(header.data(), length, header.size());
  std::copy_n(header.begin(), now, data + header_length_bytes);
  std::memset(data + header_length_bytes + now, 0, tail);
  const std::uint64_t claimed = now;
  std::memcpy(data, &claimed, sizeof(claimed));
  return header_length_bytes + now + tail;
}
