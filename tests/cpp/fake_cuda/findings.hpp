#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace fake_cuda {

// What was done wrong. Guarded by the simulation's mutex.
class Findings {
 public:
  void add(const char* call, const std::string& what) {
    if (lines_.size() < most) {
      lines_.push_back(std::string(call) + ": " + what);
    }
  }
  [[nodiscard]] std::string text() const {
    std::string result;
    for (const std::string& line : lines_) {
      result += line + "\n";
    }
    return result;
  }
  void clear() { lines_.clear(); }

 private:
  static constexpr std::size_t most = 200;
  std::vector<std::string> lines_;
};

}  // namespace fake_cuda
