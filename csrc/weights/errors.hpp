#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace pipelined::weights {

// Everything that can go wrong in the loader.
//
//   Error
//    ├─ IoError                the operating system refused: open, read, map
//    ├─ FileChanged            a file is no longer what it was when it was opened
//    ├─ OverBudget             more memory than there may ever be
//    ├─ Cancelled              whoever wanted the bytes no longer does
//    ├─ Asleep                 the bytes are not in memory at the moment
//    ├─ DriverMissing          no CUDA driver, or one that lacks a function
//    ├─ CudaError              the CUDA driver refused
//    └─ FormatError            the file is not a well-formed safetensors file
//        ├─ HeaderTooSmall       no room for the length, or the length is that of no object
//        ├─ HeaderTooLarge       longer than max_header_bytes
//        ├─ HeaderTruncated      the header ends after the file does
//        ├─ InvalidHeaderStart   the header does not start with '{'
//        ├─ InvalidUtf8          the header is not UTF-8
//        ├─ InvalidJson          the header is not JSON
//        ├─ JsonTooDeep          nested more deeply than the reader follows
//        ├─ DuplicateKey         a key appears twice in one object
//        ├─ InvalidMetadata      __metadata__ is not an object of strings
//        ├─ InvalidTensorInfo    a tensor's description lacks a field or has one of a wrong type
//        ├─ UnknownDtype         an element type that the format does not define
//        ├─ UnsupportedDtype     an element type that cannot be handed to the consumer
//        ├─ ShapeOverflow        the size that a shape asks for does not fit in 64 bits
//        ├─ SizeMismatch         shape and dtype ask for another size than the offsets give
//        ├─ InvalidOffsets       a tensor ends before it begins
//        ├─ TensorHole           bytes between two tensors belong to neither
//        ├─ TensorOverlap        two tensors claim the same bytes
//        ├─ TruncatedFile        the file ends before its last tensor does
//        └─ TrailingBytes        bytes after the last tensor belong to none
//
// A file in which two faults meet is reported by the one that is found first.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class IoError : public Error {
 public:
  IoError(const std::string& operation, std::string path, int code);

  // The errno of the failed call.
  [[nodiscard]] int code() const noexcept { return code_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  int code_;
};

class FileChanged : public Error {
 public:
  FileChanged(std::string path, const std::string& detail);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
};

class OverBudget : public Error {
 public:
  // `memory` says of what kind, such as "device memory".
  OverBudget(const std::string& memory, std::uint64_t needed, std::uint64_t allowed);

  [[nodiscard]] std::uint64_t needed() const noexcept { return needed_; }
  [[nodiscard]] std::uint64_t allowed() const noexcept { return allowed_; }

 private:
  std::uint64_t needed_;
  std::uint64_t allowed_;
};

class Cancelled : public Error {
 public:
  Cancelled();
};

class Asleep : public Error {
 public:
  Asleep();
};

class DriverMissing : public Error {
 public:
  DriverMissing(const std::string& detail, std::string driver, std::string symbol = {});

  [[nodiscard]] const std::string& driver() const noexcept { return driver_; }
  // The function that it lacks; empty where there is no driver.
  [[nodiscard]] const std::string& symbol() const noexcept { return symbol_; }

 private:
  std::string driver_;
  std::string symbol_;
};

class CudaError : public Error {
 public:
  // `name` and `description` are the driver's, and empty for a code that it does not know.
  CudaError(std::string call, unsigned code, std::string name, const std::string& description);

  // The driver's function, as libcuda exports it.
  [[nodiscard]] const std::string& call() const noexcept { return call_; }
  // The CUresult, and what the driver calls it: CUDA_ERROR_OUT_OF_MEMORY and the like.
  [[nodiscard]] unsigned code() const noexcept { return code_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }

 private:
  std::string call_;
  unsigned code_;
  std::string name_;
};

// The parser knows no files, so the path is filled in by whoever gave it the bytes.
class FormatError : public Error {
 public:
  explicit FormatError(const std::string& detail, std::string tensor = {});

  [[nodiscard]] const char* what() const noexcept override { return message_.c_str(); }
  // The tensor at fault; empty where the fault is nobody's in particular.
  [[nodiscard]] const std::string& tensor() const noexcept { return tensor_; }
  // Empty until in_file() has been called.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

  void in_file(const std::string& path);

 private:
  std::string message_;
  std::string tensor_;
  std::string path_;
};

class HeaderTooSmall : public FormatError {
 public:
  using FormatError::FormatError;
};
class HeaderTooLarge : public FormatError {
 public:
  using FormatError::FormatError;
};
class HeaderTruncated : public FormatError {
 public:
  using FormatError::FormatError;
};
class InvalidHeaderStart : public FormatError {
 public:
  using FormatError::FormatError;
};
class InvalidUtf8 : public FormatError {
 public:
  using FormatError::FormatError;
};
class InvalidJson : public FormatError {
 public:
  using FormatError::FormatError;
};
class JsonTooDeep : public FormatError {
 public:
  using FormatError::FormatError;
};
class DuplicateKey : public FormatError {
 public:
  using FormatError::FormatError;
};
class InvalidMetadata : public FormatError {
 public:
  using FormatError::FormatError;
};
class InvalidTensorInfo : public FormatError {
 public:
  using FormatError::FormatError;
};
class UnknownDtype : public FormatError {
 public:
  using FormatError::FormatError;
};
class UnsupportedDtype : public FormatError {
 public:
  using FormatError::FormatError;
};
class ShapeOverflow : public FormatError {
 public:
  using FormatError::FormatError;
};
class SizeMismatch : public FormatError {
 public:
  using FormatError::FormatError;
};
class InvalidOffsets : public FormatError {
 public:
  using FormatError::FormatError;
};
class TensorHole : public FormatError {
 public:
  using FormatError::FormatError;
};
class TensorOverlap : public FormatError {
 public:
  using FormatError::FormatError;
};
class TruncatedFile : public FormatError {
 public:
  using FormatError::FormatError;
};
class TrailingBytes : public FormatError {
 public:
  using FormatError::FormatError;
};

}  // namespace pipelined::weights
