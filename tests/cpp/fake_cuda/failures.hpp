#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "weights/cuda/driver_types.hpp"

namespace fake_cuda {

// Counts calls and says which of them have to fail. Guarded by the simulation's mutex.
class Failures {
 public:
  using Result = pipelined::weights::cuda::Result;

  // An empty name stands for whatever function. `n` counts from 1, and from now.
  void fail(const std::string& function, std::uint64_t n, Result result, std::uint64_t times) {
    if (n == 0) {
      std::erase_if(planned_, [&](const Planned& planned) {
        return function.empty() || planned.function == function;
      });
      return;
    }
    const std::uint64_t first = calls(function) + n;
    planned_.push_back({function, first, times, result});
  }

  // To be asked once for each call.
  std::optional<Result> count(const std::string& function) {
    const std::uint64_t number = ++calls_[function];
    ++all_calls_;
    for (const Planned& planned : planned_) {
      if (!planned.function.empty() && planned.function != function) {
        continue;
      }
      const std::uint64_t call = planned.function.empty() ? all_calls_ : number;
      if (call >= planned.first && call - planned.first < planned.times) {
        return planned.result;
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] std::uint64_t calls(const std::string& function) const {
    if (function.empty()) {
      return all_calls_;
    }
    const auto found = calls_.find(function);
    return found != calls_.end() ? found->second : 0;
  }

  void clear() { *this = {}; }

 private:
  struct Planned {
    std::string function;
    std::uint64_t first;
    std::uint64_t times;
    Result result;
  };

  std::map<std::string, std::uint64_t> calls_;
  std::uint64_t all_calls_ = 0;
  std::vector<Planned> planned_;
};

}  // namespace fake_cuda
