// The units' tests as a Python module, for pytest.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "testing.hpp"

namespace {

namespace py = pybind11;
namespace testing = pipelined::testing;

std::vector<std::string> names() {
  std::vector<std::string> result;
  for (const testing::Test* test : testing::Test::all()) {
    result.push_back(test->name());
  }
  return result;
}

void run(const std::string& name, const std::string& directory, const std::string& libraries) {
  for (const testing::Test* test : testing::Test::all()) {
    if (test->name() == name) {
      const py::gil_scoped_release unlocked;
      test->run({directory, libraries});
      return;
    }
  }
  throw py::key_error(name);
}

}  // namespace

// What the macro expands to is pybind11's.
// NOLINTNEXTLINE(misc-const-correctness)
PYBIND11_MODULE(_weights_tests, module) {
  // NOLINTNEXTLINE(bugprone-throw-keyword-missing)
  py::register_exception<testing::Failure>(module, "Failure", PyExc_AssertionError);
  module.def("names", names);
  module.def("run", run, py::arg("name"), py::arg("directory"), py::arg("libraries"));
}
