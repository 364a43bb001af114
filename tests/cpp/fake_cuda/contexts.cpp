#include "contexts.hpp"

namespace fake_cuda {

std::vector<cuda::Context>& Contexts::stack() const {
  thread_local std::vector<cuda::Context> contexts;
  thread_local std::uint64_t epoch = 0;
  if (epoch != epoch_) {
    contexts.clear();
    epoch = epoch_;
  }
  return contexts;
}

cuda::Context Contexts::retain(int device) {
  auto found = primary_.find(device);
  if (found == primary_.end()) {
    const auto state = std::make_shared<ContextState>();
    state->device = device;
    state->handle = alive_.add(state);
    found = primary_.emplace(device, state->handle).first;
  }
  ++alive_.find(found->second)->references;
  return found->second;
}

bool Contexts::release(int device, std::shared_ptr<ContextState>* destroyed) {
  const auto found = primary_.find(device);
  if (found == primary_.end()) {
    return false;
  }
  const std::shared_ptr<ContextState> state = alive_.find(found->second);
  if (--state->references == 0) {
    alive_.remove(found->second);
    primary_.erase(found);
    *destroyed = state;
  }
  return true;
}

cuda::Context Contexts::current() const {
  const std::vector<cuda::Context>& contexts = stack();
  return !contexts.empty() && find(contexts.back()) ? contexts.back() : nullptr;
}

void Contexts::push(cuda::Context context) {
  stack().push_back(context);
  ++pushed_;
}

bool Contexts::pop(cuda::Context* context) {
  std::vector<cuda::Context>& contexts = stack();
  if (contexts.empty()) {
    return false;
  }
  *context = contexts.back();
  contexts.pop_back();
  --pushed_;
  return true;
}

std::string Contexts::leaks() const {
  std::string text;
  for (const auto& [device, context] : primary_) {
    text += "still held: " + std::to_string(find(context)->references) +
            " references on the context of device " + std::to_string(device) + "\n";
  }
  if (pushed_ > 0) {
    text += "still held: " + std::to_string(pushed_) + " contexts pushed and not popped\n";
  }
  return text;
}

void Contexts::clear() {
  alive_.clear();
  primary_.clear();
  pushed_ = 0;
  ++epoch_;
}

}  // namespace fake_cuda
