#pragma once

#include <memory>
#include <string>

#include "weights/cuda/driver_types.hpp"

namespace pipelined::weights::cuda {

class Driver;

template <typename Signature>
class Function;

// One function of the driver. Called, it throws CudaError unless the driver returns success;
// attempt() returns what the driver did, for where a failure is an answer (not_ready) or where
// nothing could be done about it (a destructor).
template <typename... Arguments>
class Function<Result(Arguments...)> {
 public:
  using Pointer = Result (*)(Arguments...);

  // `pointer` must be that of the function named `name`; both and the driver must outlive this.
  Function(const Driver& driver, const char* name, void* pointer) noexcept
      : driver_(driver),
        name_(name),
        // The one way in which dlsym() gives functions, which POSIX demands to work.
        pointer_(reinterpret_cast<Pointer>(pointer)) {}  // NOLINT(*-reinterpret-cast)

  void operator()(Arguments... arguments) const;
  [[nodiscard]] Result attempt(Arguments... arguments) const noexcept {
    return pointer_(arguments...);
  }
  // As libcuda exports it.
  [[nodiscard]] const char* name() const noexcept { return name_; }

 private:
  const Driver& driver_;
  const char* name_;
  Pointer pointer_;
};

// The CUDA driver's functions, as a table that is filled from the library at run time: nothing
// links CUDA, and a machine without a driver is an error of those who ask for one.
//
// Immutable, hence thread-safe as far as the driver is, which is thread-safe throughout. The
// library stays loaded for the rest of the process, for it has threads and exit handlers of its
// own.
class Driver {
 public:
  static constexpr const char* default_library = "libcuda.so.1";

  // Neither initialises CUDA nor touches a device. Throws DriverMissing where the library cannot
  // be opened or lacks one of the functions.
  static std::shared_ptr<const Driver> open(const std::string& library = default_library);

  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;
  Driver(Driver&&) = delete;
  Driver& operator=(Driver&&) = delete;
  ~Driver() = default;

  // Throws CudaError, with the driver's own words, unless the result is success.
  void check(Result result, const char* call) const {
    if (result != Result::success) {
      fail(result, call);
    }
  }

 private:
  explicit Driver(std::string library);

  [[nodiscard]] void* find(const char* symbol) const;
  [[noreturn]] void fail(Result result, const char* call) const;

  std::string library_;
  // Never closed.
  void* handle_;

 public:
// The functions are the interface, and constant.
// NOLINTBEGIN(*-non-private-member-variables-in-classes)
#define PIPELINED_MEMBER(member, symbol, signature) \
  const Function<signature> member{*this, #symbol, find(#symbol)};
  PIPELINED_CUDA_FUNCTIONS(PIPELINED_MEMBER)
#undef PIPELINED_MEMBER
  // NOLINTEND(*-non-private-member-variables-in-classes)
};

template <typename... Arguments>
void Function<Result(Arguments...)>::operator()(Arguments... arguments) const {
  driver_.check(pointer_(arguments...), name_);
}

}  // namespace pipelined::weights::cuda
