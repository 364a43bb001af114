#include "python/errors.hpp"

#include <exception>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "weights/errors.hpp"

namespace pipelined::python {
namespace {

namespace py = pybind11;

// Paths come from os.fsencode and go back the same way, whatever their bytes are.
py::object decoded_path(const std::string& path) {
  return py::reinterpret_steal<py::object>(
      PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size())));
}

py::object text_of(const std::exception& failure) {
  const std::string_view message = failure.what();
  return py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(
      message.data(), static_cast<Py_ssize_t>(message.size()), "backslashreplace"));
}

template <typename Failure>
py::gil_safe_call_once_and_store<py::object>& python_class() {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> storage;
  return storage;
}

// What an error of a kind tells beside its text.
void describe(const py::object& error, const weights::FormatError& failure) {
  error.attr("path") = decoded_path(failure.path());
  error.attr("tensor") = failure.tensor();
}
void describe(const py::object& error, const weights::FileChanged& failure) {
  error.attr("path") = decoded_path(failure.path());
}
void describe(const py::object& error, const weights::OverBudget& failure) {
  error.attr("needed") = failure.needed();
  error.attr("allowed") = failure.allowed();
}
void describe(const py::object& error, const weights::DriverMissing& failure) {
  error.attr("driver") = decoded_path(failure.driver());
  error.attr("symbol") = failure.symbol();
}
void describe(const py::object& error, const weights::CudaError& failure) {
  error.attr("call") = failure.call();
  error.attr("code") = failure.code();
  error.attr("name") = failure.name();
}
void describe(const py::object& /*error*/, const weights::Error& /*failure*/) {}

template <typename Failure>
void raise(const Failure& failure) {
  const py::object& type = python_class<Failure>().get_stored();
  const py::object error = type(text_of(failure));
  describe(error, failure);
  PyErr_SetObject(type.ptr(), error.ptr());
}

template <typename Failure>
py::object bind_error(py::module_& module, const char* name, const char* doc,
                      const py::object& base) {
  const std::string qualified = "pipelined._weights." + std::string(name);
  const auto create = [&] {
    return py::reinterpret_steal<py::object>(
        PyErr_NewExceptionWithDoc(qualified.c_str(), doc, base.ptr(), nullptr));
  };
  const py::object& type = python_class<Failure>().call_once_and_store_result(create).get_stored();
  if (!type) {
    throw py::error_already_set();
  }
  module.attr(name) = type;
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      std::rethrow_exception(std::move(pointer));
    } catch (const Failure& failure) {
      raise(failure);
    }
  });
  return type;
}

void raise_os_error(std::exception_ptr pointer) {
  try {
    std::rethrow_exception(std::move(pointer));
  } catch (const weights::IoError& error) {
    const py::object path = decoded_path(error.path());
    const std::string reason = std::generic_category().message(error.code());
    const py::tuple arguments = py::make_tuple(error.code(), reason, path);
    PyErr_SetObject(PyExc_OSError, arguments.ptr());
  }
}

}  // namespace

void bind_errors(py::module_& module) {
  const py::object stock = py::module_::import("safetensors").attr("SafetensorError");
  const auto load_error = py::reinterpret_steal<py::object>(PyErr_NewExceptionWithDoc(
      "pipelined._weights.LoadError", "A load that did not end well, whatever the file.",
      stock.ptr(), nullptr));
  module.attr("LoadError") = load_error;
// Macros, so that a class cannot be bound under another name than its own.
#define PIPELINED_BIND(name, doc) bind_error<weights::name>(module, #name, doc, load_error)
  PIPELINED_BIND(FileChanged, "A file is no longer what it was when it was opened.");
  PIPELINED_BIND(OverBudget, "More memory is needed than there may be.");
  PIPELINED_BIND(Cancelled, "The load was cancelled.");
  PIPELINED_BIND(Asleep, "The weights are not in memory at the moment.");
  PIPELINED_BIND(DriverMissing, "There is no CUDA driver, or it lacks a function.");
  PIPELINED_BIND(CudaError, "The CUDA driver refused a call.");
#undef PIPELINED_BIND
  py::register_exception_translator(raise_os_error);
  // Translators are asked in the reverse order of their registration: the base comes first.
  const py::object base = bind_error<weights::FormatError>(
      module, "FormatError", "The file is not a well-formed safetensors file.", stock);
  // For those that Python code raises itself.
  base.attr("path") = "";
  base.attr("tensor") = "";
  const auto bind = [&]<typename Failure>(const char* name, const char* doc) {
    bind_error<Failure>(module, name, doc, base);
  };
#define PIPELINED_BIND(name, doc) bind.operator()<weights::name>(#name, doc)
  PIPELINED_BIND(HeaderTooSmall, "There is no room for a header.");
  PIPELINED_BIND(HeaderTooLarge, "The header claims to be longer than the format allows.");
  PIPELINED_BIND(HeaderTruncated, "The file ends before its header does.");
  PIPELINED_BIND(InvalidHeaderStart, "The header does not start with an opening brace.");
  PIPELINED_BIND(InvalidUtf8, "The header is not UTF-8.");
  PIPELINED_BIND(InvalidJson, "The header is not JSON.");
  PIPELINED_BIND(JsonTooDeep, "The header is nested too deeply.");
  PIPELINED_BIND(DuplicateKey, "A key appears twice in one object of the header.");
  PIPELINED_BIND(InvalidMetadata, "__metadata__ is not an object of strings.");
  PIPELINED_BIND(InvalidTensorInfo, "The description of a tensor is incomplete or ill-typed.");
  PIPELINED_BIND(UnknownDtype, "A tensor has an element type that the format does not define.");
  PIPELINED_BIND(UnsupportedDtype, "A tensor's element type has no counterpart in torch.");
  PIPELINED_BIND(ShapeOverflow, "The size that a shape asks for does not fit in 64 bits.");
  PIPELINED_BIND(SizeMismatch, "Shape and dtype ask for another size than the offsets give.");
  PIPELINED_BIND(InvalidOffsets, "A tensor ends before it begins.");
  PIPELINED_BIND(TensorHole, "Bytes between two tensors belong to neither.");
  PIPELINED_BIND(TensorOverlap, "Two tensors claim the same bytes.");
  PIPELINED_BIND(TruncatedFile, "The file ends before its last tensor does.");
  PIPELINED_BIND(TrailingBytes, "Bytes after the last tensor belong to none.");
#undef PIPELINED_BIND
}

}  // namespace pipelined::python
