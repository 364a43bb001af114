#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace pipelined::weights {

// Which memory belongs to which file, for a signal handler to ask: all mappings of this process.
//
// Entries are a list that only grows; one that is given back is used again. Nothing is ever locked
// or freed, so that find() may interrupt any other function here, in any thread.
class MappingRegistry {
  struct Entry;

 public:
  struct Found {
    const char* path;
    // Of the byte, in the file.
    std::uint64_t offset;
  };

  // A place in the list, taken for as long as this lives. Not thread-safe by itself; several
  // places are independent of each other.
  class Place {
   public:
    // Throws std::bad_alloc.
    Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    Place(Place&&) = delete;
    Place& operator=(Place&&) = delete;
    ~Place();

    // From now on find() finds the range. The path must live until withdraw(), or the end of this.
    void publish(const void* begin, std::size_t bytes, const char* path) noexcept;
    void withdraw() noexcept;

   private:
    Entry* entry_ = nullptr;
  };

  // The file that is mapped at an address. What it returns is good while the mapping lives, which
  // it does as long as the program touches it. Async-signal-safe.
  [[nodiscard]] static std::optional<Found> find(const void* address) noexcept;

 private:
  static std::atomic<Entry*>& first() noexcept;
};

}  // namespace pipelined::weights
