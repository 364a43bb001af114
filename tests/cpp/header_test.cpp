#include "weights/header.hpp"

#include <array>
#include <cstring>
#include <string>

#include "testing.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights {
namespace {

std::uint64_t length_of(std::uint64_t claimed, std::uint64_t file_bytes) {
  std::array<std::byte, header_length_bytes> prefix{};
  for (std::size_t index = 0; index < prefix.size(); ++index) {
    prefix.at(index) = static_cast<std::byte>(claimed >> (8U * index));
  }
  return parse_header_length(prefix, file_bytes);
}

std::string tensor(const char* name, const char* dtype, const char* shape, const char* offsets) {
  return std::string("\"") + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape +
         R"(],"data_offsets":[)" + offsets + "]}";
}

std::string object(const std::string& first, const std::string& second = "") {
  return "{" + first + (second.empty() ? "" : ",") + second + "}";
}

std::string eight() { return tensor("t", "F32", "2", "0,8"); }

UNIT_TEST(lengths) {
  CHECK_EQUAL(length_of(2, 10), 2);
  CHECK_EQUAL(length_of(max_header_bytes, max_header_bytes + 8), max_header_bytes);
  CHECK_THROWS(HeaderTooSmall, length_of(2, 7));
  CHECK_THROWS(HeaderTooSmall, length_of(0, 100));
  CHECK_THROWS(HeaderTooSmall, length_of(1, 100));
  CHECK_THROWS(HeaderTooLarge, length_of(max_header_bytes + 1, max_header_bytes + 9));
  CHECK_THROWS(HeaderTooLarge, length_of(~std::uint64_t{0}, 100));
  CHECK_THROWS(HeaderTruncated, length_of(3, 10));
}

UNIT_TEST(tensors_come_in_the_order_of_the_file) {
  const Header header =
      Header::parse(object(tensor("b", "U8", "3", "2,5"), tensor("c", "U8", "2", "0,2")), 5);
  CHECK_EQUAL(header.tensors().size(), 2);
  CHECK_EQUAL(header.tensors()[0].name, "c");
  CHECK_EQUAL(header.tensors()[1].name, "b");
  CHECK_EQUAL(header.tensors()[header.by_name()[0]].name, "b");
  CHECK_EQUAL(header.data_bytes(), 5);
  CHECK(!header.metadata().has_value());
}

UNIT_TEST(tensors_are_found_by_name) {
  const Header header = Header::parse(object(eight(), tensor("", "U8", "0", "8,8")), 8);
  CHECK(header.find("t") != nullptr);
  CHECK(header.find("t")->dtype == Dtype::f32);
  CHECK(header.find("t")->shape == std::vector<std::int64_t>{2});
  CHECK_EQUAL(header.find("t")->bytes(), 8);
  CHECK_EQUAL(header.find("")->begin, 8);
  CHECK(header.find("s") == nullptr);
  CHECK(header.find("tt") == nullptr);
}

UNIT_TEST(metadata_is_kept_in_order) {
  const Header header = Header::parse(R"({"__metadata__":{"z":"1","a":"\u00e9"}})", 0);
  CHECK(header.metadata() == Metadata{{"z", "1"}, {"a", "\u00e9"}});
  CHECK(Header::parse(R"({"__metadata__":{}})", 0).metadata() == Metadata{});
  CHECK(!Header::parse(R"({"__metadata__":null})", 0).metadata().has_value());
}

UNIT_TEST(packed_elements_fill_whole_bytes) {
  const Header header = Header::parse(object(tensor("t", "F6_E2M3", "4", "0,3")), 3);
  CHECK_EQUAL(header.tensors()[0].bytes(), 3);
  CHECK_THROWS(SizeMismatch, Header::parse(object(tensor("t", "F6_E2M3", "3", "0,2")), 2));
  CHECK_THROWS(SizeMismatch, Header::parse(object(tensor("t", "F4", "1", "0,0")), 0));
}

UNIT_TEST(empty_tensors_may_lie_anywhere_on_a_boundary) {
  const std::string empty = tensor("e", "F64", "3,0", "8,8");
  CHECK_EQUAL(Header::parse(object(eight(), empty), 8).tensors().size(), 2);
  CHECK_THROWS(TensorOverlap, Header::parse(object(eight(), tensor("e", "U8", "0", "4,4")), 8));
  CHECK_THROWS(TensorHole, Header::parse(object(tensor("e", "U8", "0", "4,4")), 0));
}

UNIT_TEST(bytes_belong_to_one_tensor_each) {
  CHECK_THROWS(TensorHole, Header::parse(object(eight(), tensor("u", "U8", "1", "9,10")), 10));
  CHECK_THROWS(TensorOverlap, Header::parse(object(eight(), tensor("u", "U8", "3", "7,10")), 10));
  CHECK_THROWS(TruncatedFile, Header::parse(object(eight()), 7));
  CHECK_THROWS(TrailingBytes, Header::parse(object(eight()), 9));
  CHECK_THROWS(InvalidOffsets, Header::parse(object(tensor("t", "U8", "0", "8,0")), 8));
}

UNIT_TEST(sizes_that_do_not_fit) {
  for (const char* shape : {"9223372036854775808", "4294967296,4294967296",
                            "4611686018427387904,2,2,0", "2305843009213693952"}) {
    CHECK_THROWS(ShapeOverflow, Header::parse(object(tensor("t", "F64", shape, "0,8")), 8));
  }
}

UNIT_TEST(a_fault_names_its_tensor) {
  try {
    static_cast<void>(Header::parse(object(tensor("t\\n", "U8", "1", "1,2")), 2));
    CHECK(false);
  } catch (const TensorHole& error) {
    CHECK_EQUAL(error.tensor(), "t\n");
  }
}

UNIT_TEST(long_names_do_not_make_long_messages) {
  const std::string name(1'000'000, 'n');
  try {
    static_cast<void>(Header::parse(object(tensor(name.c_str(), "U8", "1", "1,2")), 2));
    CHECK(false);
  } catch (const TensorHole& error) {
    CHECK(std::strlen(error.what()) < 1000);
  }
}

}  // namespace
}  // namespace pipelined::weights
