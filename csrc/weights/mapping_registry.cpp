#include "weights/mapping_registry.hpp"

#include <bit>
#include <memory>

namespace pipelined::weights {

// A signal handler reads all of it, so all of it is atomic, without locks.
struct MappingRegistry::Entry {
  std::atomic<bool> taken{true};
  std::atomic<std::uintptr_t> begin{0};
  // 0 while there is no mapping: written last when there is one, and first when it goes.
  std::atomic<std::uintptr_t> end{0};
  std::atomic<const char*> path{nullptr};
  Entry* next = nullptr;
};
static_assert(std::atomic<std::uintptr_t>::is_always_lock_free);
static_assert(std::atomic<const char*>::is_always_lock_free);

std::atomic<MappingRegistry::Entry*>& MappingRegistry::first() noexcept {
  static constinit std::atomic<Entry*> entry{nullptr};
  return entry;
}

MappingRegistry::Place::Place() {
  for (Entry* entry = first().load(); entry != nullptr; entry = entry->next) {
    if (!entry->taken.load() && !entry->taken.exchange(true)) {
      entry_ = entry;
      return;
    }
  }
  // The list owns it from here on, and is never taken apart.
  entry_ = std::make_unique<Entry>().release();
  entry_->next = first().load();
  while (!first().compare_exchange_weak(entry_->next, entry_)) {
  }
}

MappingRegistry::Place::~Place() {
  withdraw();
  entry_->taken.store(false);
}

void MappingRegistry::Place::publish(const void* begin, std::size_t bytes,
                                     const char* path) noexcept {
  const auto address = std::bit_cast<std::uintptr_t>(begin);
  entry_->path.store(path);
  entry_->begin.store(address);
  entry_->end.store(address + bytes);
}

void MappingRegistry::Place::withdraw() noexcept { entry_->end.store(0); }

std::optional<MappingRegistry::Found> MappingRegistry::find(const void* address) noexcept {
  const auto wanted = std::bit_cast<std::uintptr_t>(address);
  for (const Entry* entry = first().load(); entry != nullptr; entry = entry->next) {
    const std::uintptr_t end = entry->end.load();
    const std::uintptr_t begin = entry->begin.load();
    if (wanted >= begin && wanted < end) {
      return Found{entry->path.load(), wanted - begin};
    }
  }
  return std::nullopt;
}

}  // namespace pipelined::weights
