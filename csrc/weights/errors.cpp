#include "weights/errors.hpp"

#include <system_error>
#include <utility>

namespace pipelined::weights {

IoError::IoError(const std::string& operation, std::string path, int code)
    : Error(operation + " " + path + ": " + std::generic_category().message(code)),
      path_(std::move(path)),
      code_(code) {}

FileChanged::FileChanged(std::string path, const std::string& detail)
    : Error(path + ": " + detail), path_(std::move(path)) {}

OverBudget::OverBudget(const std::string& memory, std::uint64_t needed, std::uint64_t allowed)
    : Error(std::to_string(needed) + " bytes of " + memory + " are needed, and " +
            std::to_string(allowed) + " allowed"),
      needed_(needed),
      allowed_(allowed) {}

Cancelled::Cancelled() : Error("cancelled") {}

Asleep::Asleep() : Error("the weights are asleep") {}

DriverMissing::DriverMissing(const std::string& detail, std::string driver, std::string symbol)
    : Error(detail), driver_(std::move(driver)), symbol_(std::move(symbol)) {}

CudaError::CudaError(std::string call, unsigned code, std::string name,
                     const std::string& description)
    : Error(call + ": " + (name.empty() ? "an error that the driver has no name for" : name) +
            " (" + std::to_string(code) + ")" + (description.empty() ? "" : ": " + description)),
      call_(std::move(call)),
      code_(code),
      name_(std::move(name)) {}

FormatError::FormatError(const std::string& detail, std::string tensor)
    : Error(detail), message_(detail), tensor_(std::move(tensor)) {}

void FormatError::in_file(const std::string& path) {
  if (path_.empty()) {
    path_ = path;
    message_ = path + ": " + message_;
  }
}

}  // namespace pipelined::weights
