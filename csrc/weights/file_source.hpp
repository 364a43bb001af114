#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "weights/checkpoint_file.hpp"
#include "weights/population.hpp"
#include "weights/source.hpp"

namespace pipelined::weights {

// How the bytes of a file get into slabs.
enum class ReadMode : std::uint8_t {
  buffered,   // through the page cache, which keeps them for the next who wants them
  direct,     // past it, with O_DIRECT
  automatic,  // through it, unless the file is cold and O_DIRECT proves faster
};

struct SourceStats {
  std::uint64_t buffered_bytes = 0;
  std::uint64_t direct_bytes = 0;
};

// One open file, and how it is best read.
//
// In automatic mode, a file that was in the page cache when it was opened is read from there. Of a
// large one that was not, the first chunks are read in both ways by turns, and the rest in the way
// that was faster; a draw goes to the page cache, for whoever reads the file next. A file system
// that refuses O_DIRECT ends the trial. Thread-safe.
class ReadableFile {
 public:
  // The file must outlive this.
  ReadableFile(const CheckpointFile& file, ReadMode mode);
  ReadableFile(const ReadableFile&) = delete;
  ReadableFile& operator=(const ReadableFile&) = delete;
  ReadableFile(ReadableFile&&) = delete;
  ReadableFile& operator=(ReadableFile&&) = delete;
  ~ReadableFile();

  // As ChunkSource::read().
  std::byte* read(const Chunk& chunk, std::span<std::byte> slab);
  void check_unchanged() const;

  // Where the bytes were when this was made.
  [[nodiscard]] Source source() const noexcept { return source_; }
  [[nodiscard]] SourceStats stats() const noexcept;

 private:
  struct Trial {
    unsigned chunks = 0;
    double seconds = 0;
    std::uint64_t bytes = 0;
  };

  ReadMode choose(std::uint64_t bytes);
  void record(ReadMode mode, std::uint64_t bytes, double seconds);
  std::byte* read_buffered(const Chunk& chunk, std::span<std::byte> slab);
  // Null where the file system refuses.
  std::byte* read_direct(const Chunk& chunk, std::span<std::byte> slab);
  // What there is from an offset on, up to `bytes`; negative where O_DIRECT is refused.
  std::int64_t read_aligned(std::byte* buffer, std::uint64_t bytes, std::uint64_t offset);
  [[noreturn]] void fail_short() const;

  const CheckpointFile& file_;
  Source source_;
  int direct_descriptor_ = -1;
  std::atomic<std::uint64_t> buffered_bytes_{0};
  std::atomic<std::uint64_t> direct_bytes_{0};
  // What the mode has been settled to; automatic while the trial runs.
  std::atomic<ReadMode> mode_;
  std::mutex mutex_;
  Trial buffered_;
  Trial direct_;
  unsigned turns_ = 0;
};

// The chunks of one or several files.
class FileSource : public ChunkSource {
 public:
  // The files must outlive the source.
  FileSource(std::span<const CheckpointFile> files, ReadMode mode);

  [[nodiscard]] std::byte* read(const Chunk& chunk, std::span<std::byte> slab) const override;
  void check_unchanged() const override;

  [[nodiscard]] Source source(std::size_t file) const noexcept { return files_[file]->source(); }
  [[nodiscard]] SourceStats stats() const noexcept;

 private:
  std::vector<std::unique_ptr<ReadableFile>> files_;
};

}  // namespace pipelined::weights
