#include "weights/errors.hpp"

#include <system_error>
#include <utility>

namespace pipelined::weights {

IoError::IoError(const std::string& operation, std::string path, int code)
    : Error(operation + " " + path + ": " + std::generic_category().message(code)),
      path_(std::move(path)),
      code_(code) {}

FormatError::FormatError(const std::string& detail, std::string tensor)
    : Error(detail), message_(detail), tensor_(std::move(tensor)) {}

void FormatError::in_file(const std::string& path) {
  if (path_.empty()) {
    path_ = path;
    message_ = path + ": " + message_;
  }
}

}  // namespace pipelined::weights
