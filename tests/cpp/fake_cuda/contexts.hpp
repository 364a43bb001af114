#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "registry.hpp"
#include "streams.hpp"
#include "weights/cuda/driver_types.hpp"

namespace fake_cuda {

struct ContextState {
  cuda::Context handle = nullptr;
  int device = 0;
  std::uint64_t references = 0;
  // Made when it is first used.
  std::shared_ptr<Stream> default_stream;
};

// The primary contexts, and which of them is current in the calling thread. Guarded by the
// simulation's mutex.
class Contexts {
 public:
  cuda::Context retain(int device);
  // The context that was destroyed with the last reference, if it was; false if there was none.
  bool release(int device, std::shared_ptr<ContextState>* destroyed);

  [[nodiscard]] std::shared_ptr<ContextState> find(cuda::Context context) const {
    return alive_.find(context);
  }
  // Null if none is, or one that is destroyed.
  [[nodiscard]] cuda::Context current() const;
  void push(cuda::Context context);
  // False if there is none.
  bool pop(cuda::Context* context);

  [[nodiscard]] std::string leaks() const;
  void clear();

 private:
  // The stack of the calling thread; one from before clear() counts as empty.
  [[nodiscard]] std::vector<cuda::Context>& stack() const;

  Registry<cuda::Context, ContextState> alive_;
  std::map<int, cuda::Context> primary_;
  std::int64_t pushed_ = 0;
  std::uint64_t epoch_ = 1;
};

}  // namespace fake_cuda
