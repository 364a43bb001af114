#include "weights/header.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "weights/errors.hpp"
#include "weights/json.hpp"
#include "weights/utf8.hpp"

namespace pipelined::weights {
namespace {

constexpr std::string_view metadata_key = "__metadata__";
constexpr std::uint64_t max_dimension = std::numeric_limits<std::int64_t>::max();

std::string quoted(std::string_view name) {
  // Names come from the file and may be as long as the header.
  constexpr std::size_t longest = 200;
  return "'" + std::string(name.substr(0, longest)) + (name.size() > longest ? "…'" : "'");
}

Metadata read_metadata(JsonReader& reader) {
  if (reader.peek() != JsonKind::object) {
    throw InvalidMetadata("__metadata__ is not an object");
  }
  Metadata metadata;
  std::string key;
  std::string value;
  reader.enter_object();
  while (reader.next_key(key)) {
    if (reader.peek() != JsonKind::string) {
      throw InvalidMetadata("the value of " + quoted(key) + " in __metadata__ is not a string");
    }
    reader.read_string(value);
    metadata.emplace_back(key, value);
  }
  std::vector<std::string_view> keys;
  keys.reserve(metadata.size());
  for (const auto& item : metadata) {
    keys.emplace_back(item.first);
  }
  std::ranges::sort(keys);
  if (const auto twice = std::ranges::adjacent_find(keys); twice != keys.end()) {
    throw DuplicateKey("__metadata__ has the key " + quoted(*twice) + " twice");
  }
  return metadata;
}

// Reads the value of one tensor in the header. Keeps the tensor's name for its messages.
class TensorReader {
 public:
  TensorReader(JsonReader& reader, const std::string& name) : reader_(reader), name_(name) {}

  TensorInfo read() {
    if (reader_.peek() != JsonKind::object) {
      throw InvalidTensorInfo("the description of tensor " + quoted(name_) + " is not an object",
                              name_);
    }
    std::optional<Dtype> dtype;
    std::optional<std::vector<std::uint64_t>> shape;
    std::optional<std::vector<std::uint64_t>> offsets;
    std::string field;
    reader_.enter_object();
    while (reader_.next_key(field)) {
      if (field == "dtype") {
        once(dtype.has_value(), field);
        dtype = read_dtype();
      } else if (field == "shape") {
        once(shape.has_value(), field);
        shape = read_numbers(field, max_rank);
      } else if (field == "data_offsets") {
        once(offsets.has_value(), field);
        offsets = read_numbers(field, 2);
      } else {
        reader_.skip_value();
      }
    }
    if (!dtype || !shape || !offsets) {
      throw InvalidTensorInfo("tensor " + quoted(name_) + " lacks " +
                                  (!dtype   ? "dtype"
                                   : !shape ? "shape"
                                            : "data_offsets"),
                              name_);
    }
    if (offsets->size() != 2) {
      throw InvalidTensorInfo("data_offsets of tensor " + quoted(name_) + " are not two numbers",
                              name_);
    }
    return checked(*dtype, *shape, (*offsets)[0], (*offsets)[1]);
  }

 private:
  void once(bool already, const std::string& field) const {
    if (already) {
      throw DuplicateKey("tensor " + quoted(name_) + " has the key " + quoted(field) + " twice",
                         name_);
    }
  }

  Dtype read_dtype() {
    if (reader_.peek() != JsonKind::string) {
      throw InvalidTensorInfo("dtype of tensor " + quoted(name_) + " is not a string", name_);
    }
    std::string name;
    reader_.read_string(name);
    const std::optional<Dtype> dtype = dtype_from_name(name);
    if (!dtype) {
      throw UnknownDtype("tensor " + quoted(name_) + " has the unknown dtype " + quoted(name),
                         name_);
    }
    return *dtype;
  }

  std::vector<std::uint64_t> read_numbers(const std::string& field, std::size_t most) {
    if (reader_.peek() != JsonKind::array) {
      throw InvalidTensorInfo(field + " of tensor " + quoted(name_) + " is not an array", name_);
    }
    std::vector<std::uint64_t> numbers;
    reader_.enter_array();
    while (reader_.next_element()) {
      const std::optional<std::uint64_t> number =
          reader_.peek() == JsonKind::number ? reader_.read_unsigned() : std::nullopt;
      if (!number) {
        throw InvalidTensorInfo(
            field + " of tensor " + quoted(name_) + " has an item that is no unsigned integer",
            name_);
      }
      if (numbers.size() == most) {
        throw InvalidTensorInfo(field + " of tensor " + quoted(name_) + " has more than " +
                                    std::to_string(most) + " items",
                                name_);
      }
      numbers.push_back(*number);
    }
    return numbers;
  }

  [[nodiscard]] TensorInfo checked(Dtype dtype, const std::vector<std::uint64_t>& shape,
                                   std::uint64_t begin, std::uint64_t end) const {
    std::uint64_t elements = 1;
    for (const std::uint64_t dimension : shape) {
      if (dimension > max_dimension || __builtin_mul_overflow(elements, dimension, &elements) ||
          elements > max_dimension) {
        overflow();
      }
    }
    std::uint64_t bits = 0;
    if (__builtin_mul_overflow(elements, dtype_bits(dtype), &bits)) {
      overflow();
    }
    if (begin > end) {
      throw InvalidOffsets("tensor " + quoted(name_) + " ends at " + std::to_string(end) +
                               ", before its beginning at " + std::to_string(begin),
                           name_);
    }
    constexpr std::uint64_t bits_per_byte = 8;
    if (bits % bits_per_byte != 0 || bits / bits_per_byte != end - begin) {
      throw SizeMismatch("tensor " + quoted(name_) + " has " + std::to_string(end - begin) +
                             " bytes, but its shape and dtype ask for " + std::to_string(bits) +
                             " bits",
                         name_);
    }
    return {name_, dtype, {shape.begin(), shape.end()}, begin, end};
  }

  [[noreturn]] void overflow() const {
    throw ShapeOverflow("the size of tensor " + quoted(name_) + " does not fit in 64 bits", name_);
  }

  JsonReader& reader_;
  const std::string& name_;
};

}  // namespace

std::uint64_t parse_header_length(const std::array<std::byte, header_length_bytes>& prefix,
                                  std::uint64_t file_bytes) {
  if (file_bytes < header_length_bytes) {
    throw HeaderTooSmall("the file has " + std::to_string(file_bytes) +
                         " bytes; the length of the header alone takes 8");
  }
  std::uint64_t length = 0;
  for (std::size_t index = header_length_bytes; index-- > 0;) {
    length = (length << 8U) | std::to_integer<std::uint64_t>(prefix.at(index));
  }
  if (length > max_header_bytes) {
    throw HeaderTooLarge("the header claims " + std::to_string(length) + " bytes, more than " +
                         std::to_string(max_header_bytes));
  }
  if (length > file_bytes - header_length_bytes) {
    throw HeaderTruncated("the header claims " + std::to_string(length) +
                          " bytes, but the file ends after " +
                          std::to_string(file_bytes - header_length_bytes) + " of them");
  }
  if (length < 2) {
    throw HeaderTooSmall("a header of " + std::to_string(length) + " bytes holds no object");
  }
  return length;
}

Header Header::parse(std::string_view json, std::uint64_t data_bytes) {
  if (!json.starts_with('{')) {
    throw InvalidHeaderStart("the header does not start with '{'");
  }
  if (const std::size_t bad = first_invalid_utf8(json); bad != json.size()) {
    throw InvalidUtf8("the header is not UTF-8 at byte " + std::to_string(bad));
  }
  Header header;
  header.data_bytes_ = data_bytes;
  JsonReader reader(json);
  std::string key;
  bool metadata_seen = false;
  reader.enter_object();
  while (reader.next_key(key)) {
    if (key != metadata_key) {
      header.tensors_.push_back(TensorReader(reader, key).read());
      continue;
    }
    if (metadata_seen) {
      throw DuplicateKey("the header has __metadata__ twice");
    }
    metadata_seen = true;
    if (reader.peek() == JsonKind::null) {
      reader.skip_value();
    } else {
      header.metadata_ = read_metadata(reader);
    }
  }
  reader.expect_end();
  header.order_by_offset();
  header.order_by_name();
  header.check_coverage();
  return header;
}

const TensorInfo* Header::find(std::string_view name) const noexcept {
  const auto name_of = [this](std::size_t index) -> std::string_view {
    return tensors_[index].name;
  };
  const auto found = std::ranges::lower_bound(by_name_, name, {}, name_of);
  return found != by_name_.end() && name_of(*found) == name ? &tensors_[*found] : nullptr;
}

void Header::order_by_offset() {
  const auto offsets = [](const TensorInfo& tensor) { return std::pair(tensor.begin, tensor.end); };
  if (!std::ranges::is_sorted(tensors_, {}, offsets)) {
    std::ranges::stable_sort(tensors_, {}, offsets);
  }
}

void Header::order_by_name() {
  const auto name_of = [this](std::size_t index) -> std::string_view {
    return tensors_[index].name;
  };
  by_name_.resize(tensors_.size());
  std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
  // Sorting, not hashing: names that were made to collide cannot make it slow.
  std::ranges::sort(by_name_, {}, name_of);
  const auto twice = std::ranges::adjacent_find(by_name_, {}, name_of);
  if (twice != by_name_.end()) {
    throw DuplicateKey("the header has tensor " + quoted(name_of(*twice)) + " twice",
                       std::string(name_of(*twice)));
  }
}

void Header::check_coverage() const {
  std::uint64_t covered = 0;
  for (const TensorInfo& tensor : tensors_) {
    if (tensor.begin > covered) {
      throw TensorHole("tensor " + quoted(tensor.name) + " begins at " +
                           std::to_string(tensor.begin) + ", but the bytes before it end at " +
                           std::to_string(covered),
                       tensor.name);
    }
    if (tensor.begin < covered) {
      throw TensorOverlap("tensor " + quoted(tensor.name) + " begins at " +
                              std::to_string(tensor.begin) + ", but the tensor before it ends at " +
                              std::to_string(covered),
                          tensor.name);
    }
    covered = tensor.end;
  }
  if (covered > data_bytes_) {
    throw TruncatedFile("the tensors take " + std::to_string(covered) +
                        " bytes, but the file has " + std::to_string(data_bytes_) +
                        " after its header");
  }
  if (covered < data_bytes_) {
    throw TrailingBytes("the tensors take " + std::to_string(covered) +
                        " bytes, but the file has " + std::to_string(data_bytes_) +
                        " after its header");
  }
}

}  // namespace pipelined::weights
