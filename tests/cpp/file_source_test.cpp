#include "weights/file_source.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoints.hpp"
#include "testing.hpp"
#include "weights/checkpoint_file.hpp"
#include "weights/errors.hpp"
#include "weights/plan.hpp"

namespace pipelined::weights {
namespace {

constexpr std::uint64_t max_bytes = std::uint64_t{1} << 20U;

// The file's tensors with a source, its chunks, and a slab as dirty as one that was used before.
struct Reading {
  explicit Reading(const std::string& path, ReadMode mode) {
    files.push_back(CheckpointFile::open(path));
    const PlannedFile planned{files[0].header.get(), files[0].data_begin};
    layout = lay_out({&planned, 1});
    chunks = cut({&planned, 1}, layout, max_bytes);
    source = std::make_unique<FileSource>(files, mode);
    memory.assign(max_bytes + ChunkSource::slab_slack + 4096, std::byte{0xAA});
    void* begin = memory.data();
    std::size_t space = memory.size();
    constexpr std::size_t bytes = max_bytes + ChunkSource::slab_slack;
    slab = {static_cast<std::byte*>(std::align(4096, bytes, begin, space)), bytes};
  }

  // The arena that the chunks make.
  [[nodiscard]] std::string arena() const {
    std::string result(layout.arena_bytes, '\x55');
    for (const Chunk& chunk : chunks) {
      const std::byte* begin = source->read(chunk, slab);
      std::ranges::transform(std::span(begin, chunk.bytes),
                             result.begin() + static_cast<std::ptrdiff_t>(chunk.arena_offset),
                             [](std::byte byte) { return static_cast<char>(byte); });
    }
    return result;
  }

  std::vector<CheckpointFile> files;
  Layout layout;
  std::vector<Chunk> chunks;
  std::unique_ptr<FileSource> source;
  std::vector<std::byte> memory;
  std::span<std::byte> slab;
};

std::string expected(const Reading& reading) {
  const std::string data = testing::numbered(reading.files[0].header->data_bytes());
  std::string result(reading.layout.arena_bytes, '\0');
  const auto& tensors = reading.files[0].header->tensors();
  for (std::size_t index = 0; index < tensors.size(); ++index) {
    result.replace(reading.layout.places[0][index], tensors[index].bytes(),
                   data.substr(tensors[index].begin, tensors[index].bytes()));
  }
  return result;
}

UNIT_TEST(all_ways_read_the_same_with_zeros_in_the_gaps) {
  std::vector<std::size_t> sizes{3, 5'000'000, 0, 1, 255, 3'000'000, 256, 4096};
  sizes.resize(3000, 100);
  for (std::size_t padding = 0; padding < 3; ++padding) {
    const std::string path =
        testing::write_checkpoint(context.directory / "a.safetensors", sizes, padding);
    for (const ReadMode mode : {ReadMode::buffered, ReadMode::direct, ReadMode::automatic}) {
      const Reading reading(path, mode);
      CHECK(reading.arena() == expected(reading));
      const SourceStats stats = reading.source->stats();
      CHECK_EQUAL(stats.buffered_bytes + stats.direct_bytes, reading.files[0].header->data_bytes());
    }
  }
}

UNIT_TEST(a_cached_file_is_read_from_the_cache) {
  const std::vector<std::size_t> sizes{100'000};
  const Reading reading(testing::write_checkpoint(context.directory / "a.safetensors", sizes),
                        ReadMode::automatic);
  CHECK(reading.source->source(0) != Source::disk);
  static_cast<void>(reading.arena());
  CHECK_EQUAL(reading.source->stats().direct_bytes, 0);
}

UNIT_TEST(a_large_cold_file_is_read_in_both_ways_at_first) {
  const std::vector<std::size_t> sizes{std::size_t{600} << 20U};
  const std::string path = testing::write_file(context.directory / "a.safetensors",
                                               testing::with_header(testing::header_of(sizes)));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) + sizes[0]);
  const Reading reading(path, ReadMode::automatic);
  if (reading.source->source(0) != Source::disk) {
    return;  // a file system that is all memory
  }
  for (std::size_t index = 0; index < 20; ++index) {
    const std::byte* begin = reading.source->read(reading.chunks[index], reading.slab);
    CHECK(std::ranges::all_of(std::span(begin, reading.chunks[index].bytes),
                              [](std::byte byte) { return byte == std::byte{0}; }));
  }
  CHECK(reading.source->stats().buffered_bytes != 0);
}

UNIT_TEST(a_file_that_was_cut_is_named) {
  const std::vector<std::size_t> sizes{3'000'000, 17};
  for (const ReadMode mode : {ReadMode::buffered, ReadMode::direct}) {
    const std::string path = testing::write_checkpoint(context.directory / "a.safetensors", sizes);
    const Reading reading(path, mode);
    std::filesystem::resize_file(path, 2'000'000);
    try {
      static_cast<void>(reading.arena());
      CHECK(false);
    } catch (const FileChanged& error) {
      CHECK_EQUAL(error.path(), path);
    }
    CHECK_THROWS(FileChanged, reading.source->check_unchanged());
  }
}

UNIT_TEST(only_the_opened_file_matters) {
  const std::vector<std::size_t> sizes{1000};
  const std::string path = testing::write_checkpoint(context.directory / "a.safetensors", sizes);
  const Reading reading(path, ReadMode::buffered);
  std::filesystem::remove(path);
  testing::write_file(path, "something else");
  reading.source->check_unchanged();
  CHECK(reading.arena() == expected(reading));
}

UNIT_TEST(a_file_that_was_written_to_has_changed) {
  const std::vector<std::size_t> sizes{1000};
  const std::string path = testing::write_checkpoint(context.directory / "a.safetensors", sizes);
  const Reading reading(path, ReadMode::buffered);
  using std::filesystem::last_write_time;
  last_write_time(path, last_write_time(path) + std::chrono::seconds(1));
  CHECK_THROWS(FileChanged, reading.source->check_unchanged());
}

}  // namespace
}  // namespace pipelined::weights
