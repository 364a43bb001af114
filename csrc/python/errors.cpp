#include "python/errors.hpp"

#include <exception>
#include <string>
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

template <typename Failure>
py::gil_safe_call_once_and_store<py::object>& python_class() {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> storage;
  return storage;
}

template <typename Failure>
void raise(const Failure& failure) {
  const py::object& type = python_class<Failure>().get_stored();
  const std::string message = failure.what();
  const auto text = py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(
      message.data(), static_cast<Py_ssize_t>(message.size()), "backslashreplace"));
  const py::object error = type(text);
  error.attr("path") = decoded_path(failure.path());
  error.attr("tensor") = failure.tensor();
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
  // For those that Python code raises itself.
  type.attr("path") = "";
  type.attr("tensor") = "";
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
  py::register_exception_translator(raise_os_error);
  // Translators are asked in the reverse order of their registration: the base comes first.
  const py::object base = bind_error<weights::FormatError>(
      module, "FormatError", "The file is not a well-formed safetensors file.", stock);
  const auto bind = [&]<typename Failure>(const char* name, const char* doc) {
    bind_error<Failure>(module, name, doc, base);
  };
// A macro, so that a class cannot be bound under another name than its own.
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
