#include "weights/cuda/driver.hpp"

#include <dlfcn.h>

#include <utility>

#include "weights/errors.hpp"

namespace pipelined::weights::cuda {
namespace {

std::string last_linker_error() {
  const char* const error = ::dlerror();  // NOLINT(concurrency-mt-unsafe): one per thread on Linux
  return error != nullptr ? error : "unknown error";
}

// What the driver says about an error; nothing where it does not know the error itself.
std::string described(const Function<Result(Result, const char**)>& describe, Result result) {
  const char* text = nullptr;
  if (describe.attempt(result, &text) != Result::success || text == nullptr) {
    return {};
  }
  return text;
}

}  // namespace

std::shared_ptr<const Driver> Driver::open(const std::string& library) {
  // No make_shared: it could not reach the constructor.
  return std::shared_ptr<const Driver>(new Driver(library));  // NOLINT(*-owning-memory)
}

Driver::Driver(std::string library)
    : library_(std::move(library)), handle_(::dlopen(library_.c_str(), RTLD_NOW | RTLD_LOCAL)) {}

void* Driver::find(const char* symbol) const {
  if (handle_ == nullptr) {
    throw DriverMissing("the CUDA driver cannot be opened: " + last_linker_error(), library_);
  }
  void* const address = ::dlsym(handle_, symbol);
  if (address == nullptr) {
    throw DriverMissing("the CUDA driver " + library_ + " has no " + symbol, library_, symbol);
  }
  return address;
}

void Driver::fail(Result result, const char* call) const {
  throw CudaError(call, static_cast<unsigned>(result), described(get_error_name, result),
                  described(get_error_string, result));
}

}  // namespace pipelined::weights::cuda
