#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>

namespace fake_cuda {

// Gives objects handles that are never given out again, so that one used too late is known. Guarded
// by the simulation's mutex.
template <typename Handle, typename Object>
class Registry {
 public:
  Handle add(std::shared_ptr<Object> object) {
    // Looks like a pointer and must never be followed: nothing is mapped so low.
    const auto handle = reinterpret_cast<Handle>(next_ += 16);
    objects_.emplace(handle, std::move(object));
    return handle;
  }
  [[nodiscard]] std::shared_ptr<Object> find(Handle handle) const {
    const auto found = objects_.find(handle);
    return found != objects_.end() ? found->second : nullptr;
  }
  bool remove(Handle handle) { return objects_.erase(handle) > 0; }
  template <typename Condition>
  [[nodiscard]] bool any(Condition condition) const {
    return std::ranges::any_of(objects_,
                               [&](const auto& entry) { return condition(*entry.second); });
  }
  [[nodiscard]] std::size_t size() const { return objects_.size(); }
  void clear() { objects_.clear(); }

 private:
  std::uintptr_t next_ = 0x100;
  std::map<Handle, std::shared_ptr<Object>> objects_;
};

}  // namespace fake_cuda
