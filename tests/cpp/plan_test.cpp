#include "weights/plan.hpp"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "checkpoints.hpp"
#include "testing.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights {
namespace {

constexpr std::uint64_t max_bytes = 16384;

Header header_of(const std::vector<std::size_t>& sizes) {
  std::uint64_t total = 0;
  for (const std::size_t size : sizes) {
    total += size;
  }
  return Header::parse(testing::header_of(sizes), total);
}

// Every byte of every tensor goes, once, from where it is in the file to where its place is.
void check(const std::vector<std::vector<std::size_t>>& files) {
  std::vector<Header> headers;
  headers.reserve(files.size());
  for (const auto& sizes : files) {
    headers.push_back(header_of(sizes));
  }
  std::vector<PlannedFile> planned;
  planned.reserve(files.size());
  for (const Header& header : headers) {
    planned.push_back({&header, 100 + planned.size()});
  }
  const Layout layout = lay_out(planned);
  const std::vector<Chunk> chunks = cut(planned, layout, max_bytes);

  std::vector<std::vector<std::int64_t>> source(files.size());
  std::vector<std::vector<std::int64_t>> expected(files.size());
  for (std::size_t file = 0; file < files.size(); ++file) {
    source[file].assign(layout.arena_bytes, -1);
    expected[file].assign(layout.arena_bytes, -1);
    for (std::size_t index = 0; index < files[file].size(); ++index) {
      const TensorInfo& tensor = headers[file].tensors()[index];
      CHECK_EQUAL(layout.places[file][index] % tensor_alignment, 0);
      for (std::uint64_t byte = 0; byte < tensor.bytes(); ++byte) {
        expected[file][layout.places[file][index] + byte] =
            static_cast<std::int64_t>(planned[file].data_begin + tensor.begin + byte);
      }
    }
  }
  std::uint64_t end = 0;
  for (const Chunk& chunk : chunks) {
    CHECK(chunk.bytes <= max_bytes);
    CHECK(chunk.arena_offset >= end);
    end = chunk.arena_offset + chunk.bytes;
    std::uint64_t position = chunk.file_offset;
    for (const Piece& piece : chunk.pieces) {
      CHECK(piece.bytes != 0);
      CHECK(piece.offset + piece.bytes <= chunk.bytes);
      for (std::uint64_t byte = 0; byte < piece.bytes; ++byte) {
        std::int64_t& target = source[chunk.file][chunk.arena_offset + piece.offset + byte];
        CHECK_EQUAL(target, -1);
        target = static_cast<std::int64_t>(position++);
      }
    }
    CHECK_EQUAL(position - chunk.file_offset, chunk.file_bytes);
    for (std::size_t index = chunk.first_tensor; index < chunk.end_tensor; ++index) {
      const std::uint64_t place = layout.places[chunk.file][index];
      CHECK(place < end);
      CHECK(place + headers[chunk.file].tensors()[index].bytes() >= chunk.arena_offset);
    }
  }
  CHECK(source == expected);
}

UNIT_TEST(nothing_makes_no_chunks) {
  check({});
  check({{}});
  check({{0, 0}, {}});
}

UNIT_TEST(tensors_of_any_size_get_their_bytes) {
  check({{1}});
  check({{0, 1, 0}});
  check({{max_bytes}});
  check({{max_bytes + 1}});
  check({{5 * max_bytes - 1, 0, 3}});
  check({{255, 256, 257, 4096, 0, 100'000, 1}});
  check({{7}, {}, {0}, {50'000, 3}, {1}});
}

UNIT_TEST(random_tensors_get_their_bytes) {
  std::mt19937 random(7);  // NOLINT(*-seed,*-msc51-cpp): the same each time
  for (int round = 0; round < 200; ++round) {
    std::vector<std::vector<std::size_t>> files(1 + random() % 3);
    for (auto& sizes : files) {
      sizes.resize(random() % 12);
      for (std::size_t& size : sizes) {
        size =
            random() % 4 == 0 ? random() % 3 * 256 : random() % (random() % 2 == 0 ? 40 : 40'000);
      }
    }
    check(files);
  }
}

UNIT_TEST(small_tensors_share_a_chunk) {
  const Header header = header_of(std::vector<std::size_t>(1000, 3));
  const PlannedFile file{&header, 0};
  const Layout layout = lay_out({&file, 1});
  const std::vector<Chunk> chunks = cut({&file, 1}, layout, std::uint64_t{1} << 20U);
  CHECK_EQUAL(chunks.size(), 1);
  CHECK_EQUAL(chunks[0].pieces.size(), 1000);
}

UNIT_TEST(tensors_that_lie_as_they_should_are_one_piece) {
  const Header header = header_of(std::vector<std::size_t>(16, 512));
  const PlannedFile file{&header, 0};
  const std::vector<Chunk> chunks = cut({&file, 1}, lay_out({&file, 1}), max_bytes);
  CHECK_EQUAL(chunks.size(), 1);
  CHECK_EQUAL(chunks[0].pieces.size(), 1);
}

UNIT_TEST(chunks_of_a_file_are_of_one_size) {
  const Header header = header_of({10 * max_bytes + 4096});
  const PlannedFile file{&header, 0};
  const std::vector<Chunk> chunks = cut({&file, 1}, lay_out({&file, 1}), max_bytes);
  CHECK_EQUAL(chunks.size(), 11);
  for (std::size_t index = 0; index + 1 < chunks.size(); ++index) {
    CHECK_EQUAL(chunks[index].bytes, chunks[0].bytes);
  }
}

UNIT_TEST(what_no_device_could_hold_is_refused) {
  constexpr std::size_t huge = std::size_t{1} << 60U;
  const Header header = header_of({huge - 1});
  const std::vector<PlannedFile> files(8, {&header, 0});
  CHECK_THROWS(OverBudget, lay_out(files));
}

}  // namespace
}  // namespace pipelined::weights
