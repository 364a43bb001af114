#include "weights/file_source.hpp"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <utility>

#include "weights/aligned_buffer.hpp"
#include "weights/errors.hpp"

namespace pipelined::weights {
namespace {

// Sizes and offsets that every disk takes with O_DIRECT.
constexpr std::uint64_t direct_alignment = 4096;
// A trial costs about as many chunks; it must be worth it.
constexpr std::uint64_t min_bytes_for_trial = std::uint64_t{512} << 20U;
constexpr unsigned trial_chunks = 4;
constexpr double direct_must_be_faster_by = 1.25;

// Whether a sample of the tensors' bytes is in the page cache, by reads that refuse to wait. Unlike
// mincore(), the kernel answers everybody who may read the file.
Source probe(const CheckpointFile& file) noexcept {
  constexpr std::uint64_t samples = 64;
  const std::uint64_t bytes = file.file.size() - file.data_begin;
  const std::uint64_t stride = std::max<std::uint64_t>(bytes / samples, 1);
  for (std::uint64_t offset = 0; offset < bytes; offset += stride) {
    std::byte byte{};
    const iovec vector{.iov_base = &byte, .iov_len = 1};
    const auto position = static_cast<off_t>(file.data_begin + offset);
    if (::preadv2(file.file.descriptor(), &vector, 1, position, RWF_NOWAIT) == 1) {
      continue;
    }
    return errno == EAGAIN ? Source::disk : Source::unknown;
  }
  return Source::page_cache;
}

void clear_gaps(const Chunk& chunk, std::byte* begin) {
  std::uint64_t filled = 0;
  for (const Piece& piece : chunk.pieces) {
    std::memset(begin + filled, 0, piece.offset - filled);
    filled = piece.offset + piece.bytes;
  }
  std::memset(begin + filled, 0, chunk.bytes - filled);
}

// Reads into the pieces of a chunk, a bounded number at a time.
class Vectors {
 public:
  Vectors(const Chunk& chunk, std::byte* begin) : chunk_(chunk), begin_(begin) {}

  [[nodiscard]] bool finished() const noexcept { return piece_ == chunk_.pieces.size(); }

  std::span<const iovec> next() {
    std::size_t count = 0;
    std::uint64_t skipped = taken_;
    for (std::size_t index = piece_; index < chunk_.pieces.size() && count < vectors_.size();
         ++index) {
      const Piece& piece = chunk_.pieces[index];
      vectors_.at(count++) = {.iov_base = begin_ + piece.offset + skipped,
                              .iov_len = piece.bytes - skipped};
      skipped = 0;
    }
    return std::span(vectors_).first(count);
  }

  void advance(std::uint64_t bytes) noexcept {
    taken_ += bytes;
    while (!finished() && taken_ >= chunk_.pieces[piece_].bytes) {
      taken_ -= chunk_.pieces[piece_].bytes;
      ++piece_;
    }
  }

 private:
  // The kernel takes 1024 at most (UIO_MAXIOV).
  std::array<iovec, 1024> vectors_{};
  const Chunk& chunk_;
  std::byte* begin_;
  std::size_t piece_ = 0;
  // Of the current piece.
  std::uint64_t taken_ = 0;
};

}  // namespace

ReadableFile::ReadableFile(const CheckpointFile& file, ReadMode mode)
    : file_(file), source_(probe(file)), mode_(mode) {
  const std::uint64_t bytes = file.file.size() - file.data_begin;
  if (mode == ReadMode::automatic && (source_ != Source::disk || bytes < min_bytes_for_trial)) {
    mode_ = ReadMode::buffered;
  }
  if (mode_ != ReadMode::buffered) {
    // The file that was opened, whatever its path names by now.
    const std::string path = "/proc/self/fd/" + std::to_string(file.file.descriptor());
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg)
    direct_descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
    if (direct_descriptor_ < 0) {
      mode_ = ReadMode::buffered;
    }
  }
}

ReadableFile::~ReadableFile() {
  if (direct_descriptor_ >= 0) {
    static_cast<void>(::close(direct_descriptor_));
  }
}

std::byte* ReadableFile::read(const Chunk& chunk, std::span<std::byte> slab) {
  using Clock = std::chrono::steady_clock;
  const ReadMode mode = choose(chunk.file_bytes);
  const Clock::time_point started = Clock::now();
  std::byte* begin = mode == ReadMode::direct ? read_direct(chunk, slab) : nullptr;
  if (begin == nullptr) {
    begin = read_buffered(chunk, slab);
  } else {
    direct_bytes_.fetch_add(chunk.file_bytes);
  }
  record(mode, chunk.file_bytes, std::chrono::duration<double>(Clock::now() - started).count());
  return begin;
}

void ReadableFile::check_unchanged() const {
  if (!file_.file.is_unchanged()) {
    throw FileChanged(file_.file.path(), "the file has changed since it was opened");
  }
}

SourceStats ReadableFile::stats() const noexcept {
  return {.buffered_bytes = buffered_bytes_.load(), .direct_bytes = direct_bytes_.load()};
}

ReadMode ReadableFile::choose(std::uint64_t bytes) {
  const ReadMode settled = mode_.load();
  if (settled != ReadMode::automatic || bytes == 0) {
    return settled == ReadMode::direct ? settled : ReadMode::buffered;
  }
  const std::scoped_lock lock(mutex_);
  return turns_++ % 2 == 0 ? ReadMode::buffered : ReadMode::direct;
}

void ReadableFile::record(ReadMode mode, std::uint64_t bytes, double seconds) {
  if (mode_.load() != ReadMode::automatic) {
    return;
  }
  const std::scoped_lock lock(mutex_);
  Trial& trial = mode == ReadMode::direct ? direct_ : buffered_;
  ++trial.chunks;
  trial.bytes += bytes;
  trial.seconds += seconds;
  if (mode_.load() == ReadMode::automatic && buffered_.chunks >= trial_chunks &&
      direct_.chunks >= trial_chunks) {
    const double buffered = static_cast<double>(buffered_.bytes) / buffered_.seconds;
    const double direct = static_cast<double>(direct_.bytes) / direct_.seconds;
    mode_ = direct > direct_must_be_faster_by * buffered ? ReadMode::direct : ReadMode::buffered;
  }
}

std::byte* ReadableFile::read_buffered(const Chunk& chunk, std::span<std::byte> slab) {
  std::byte* const begin = slab.data();
  Vectors vectors(chunk, begin);
  std::uint64_t offset = chunk.file_offset;
  while (!vectors.finished()) {
    const std::span<const iovec> next = vectors.next();
    const ssize_t count = ::preadv(file_.file.descriptor(), next.data(),
                                   static_cast<int>(next.size()), static_cast<off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      throw IoError("read", file_.file.path(), errno);
    }
    if (count == 0) {
      fail_short();
    }
    offset += static_cast<std::uint64_t>(count);
    vectors.advance(static_cast<std::uint64_t>(count));
  }
  clear_gaps(chunk, begin);
  buffered_bytes_.fetch_add(chunk.file_bytes);
  return begin;
}

std::byte* ReadableFile::read_direct(const Chunk& chunk, std::span<std::byte> slab) {
  const std::uint64_t skipped = chunk.file_offset % direct_alignment;
  const std::uint64_t first = chunk.file_offset - skipped;
  const std::uint64_t wanted = skipped + chunk.file_bytes;
  const std::uint64_t bytes = (wanted + direct_alignment - 1) / direct_alignment * direct_alignment;
  // One piece can be read in place: the chunk begins where the file's own alignment puts it. Others
  // go by way of a buffer, which each thread keeps for as long as it lives.
  const bool in_place = chunk.pieces.size() == 1 && chunk.file_bytes == chunk.bytes;
  thread_local AlignedBuffer buffer;
  std::byte* const target = in_place ? slab.data() : buffer.get(bytes, direct_alignment).data();
  const std::int64_t count = read_aligned(target, bytes, first);
  if (count < 0) {
    mode_ = ReadMode::buffered;
    return nullptr;
  }
  if (std::cmp_less(count, wanted)) {
    fail_short();
  }
  if (in_place) {
    return target + skipped;
  }
  const std::byte* from = target + skipped;
  for (const Piece& piece : chunk.pieces) {
    std::memcpy(slab.data() + piece.offset, from, piece.bytes);
    from += piece.bytes;
  }
  clear_gaps(chunk, slab.data());
  return slab.data();
}

std::int64_t ReadableFile::read_aligned(std::byte* buffer, std::uint64_t bytes,
                                        std::uint64_t offset) {
  std::uint64_t done = 0;
  while (done < bytes) {
    const ssize_t count =
        ::pread(direct_descriptor_, buffer + done, bytes - done, static_cast<off_t>(offset + done));
    if (count < 0) {
      if (errno == EINTR) {
        continue;
      }
      // EFAULT: memory that a device driver has mapped may be closed to the disk.
      if (errno == EINVAL || errno == EFAULT || errno == EOPNOTSUPP) {
        return -1;
      }
      throw IoError("read", file_.file.path(), errno);
    }
    done += static_cast<std::uint64_t>(count);
    // The end of the file ends a read at any length; nothing that follows could be aligned.
    if (count == 0 || static_cast<std::uint64_t>(count) % direct_alignment != 0) {
      break;
    }
  }
  return static_cast<std::int64_t>(done);
}

void ReadableFile::fail_short() const {
  throw FileChanged(file_.file.path(), "the file has become shorter since it was opened");
}

FileSource::FileSource(std::span<const CheckpointFile> files, ReadMode mode) {
  files_.reserve(files.size());
  for (const CheckpointFile& file : files) {
    files_.push_back(std::make_unique<ReadableFile>(file, mode));
  }
}

std::byte* FileSource::read(const Chunk& chunk, std::span<std::byte> slab) const {
  return files_[chunk.file]->read(chunk, slab);
}

void FileSource::check_unchanged() const {
  for (const auto& file : files_) {
    file->check_unchanged();
  }
}

SourceStats FileSource::stats() const noexcept {
  SourceStats total;
  for (const auto& file : files_) {
    const SourceStats stats = file->stats();
    total.buffered_bytes += stats.buffered_bytes;
    total.direct_bytes += stats.direct_bytes;
  }
  return total;
}

}  // namespace pipelined::weights
