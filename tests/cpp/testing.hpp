#pragma once

#include <concepts>
#include <filesystem>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

// How units of the core are tested. A file UNIT_test.cpp in this folder, found by itself, has
//
//   #include "weights/utf8.hpp"
//   #include "testing.hpp"
//
//   UNIT_TEST(finds_overlong_forms) { CHECK_EQUAL(first_invalid_utf8("\xC0\xAF"), 0U); }
//
// inside namespace pipelined::weights, in an anonymous namespace. Each is one test of pytest,
// `tests/cpp/test_units.py::test_unit[utf8.finds_overlong_forms]`, run without the interpreter's
// lock; `context.directory` is an empty folder of its own. Select with `pytest tests/cpp -k utf8`.
// The session compiles what changed; under `make test-asan` and `make test-tsan` each test is run
// in a process of its own, without Python.
//
// A check that fails throws, so checks belong in the test's own thread, and threads that it
// starts have to be joined by destructors (std::jthread).
namespace pipelined::testing {

struct Context {
  // Empty, and removed later.
  std::filesystem::path directory;
  // Holds libNAME.so for each folder NAME of sources beside the tests.
  std::filesystem::path libraries;
};

// One test, linked with all others; lives as long as the program.
class Test {
 public:
  Test(const char* file, const char* name, void (*body)(const Context&)) noexcept
      : file_(file), name_(name), body_(body), next_(std::exchange(first(), this)) {}

  // UNIT.NAME
  [[nodiscard]] std::string name() const {
    constexpr std::string_view suffix = "_test";
    const std::string unit = std::filesystem::path(file_).stem().string();
    return unit.substr(0, unit.size() - suffix.size()) + "." + name_;
  }
  void run(const Context& context) const { body_(context); }

  // In no particular order.
  [[nodiscard]] static std::vector<const Test*> all() {
    std::vector<const Test*> result;
    for (const Test* test = first(); test != nullptr; test = test->next_) {
      result.push_back(test);
    }
    return result;
  }

 private:
  static const Test*& first() noexcept {
    static const Test* test = nullptr;
    return test;
  }

  const char* file_;
  const char* name_;
  void (*body_)(const Context&);
  const Test* next_;
};

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& message) {
  throw Failure(std::string(file) + ":" + std::to_string(line) + ": " + message);
}

template <typename Value>
std::string shown(const Value& value) {
  if constexpr (requires(std::ostream& stream) { stream << value; }) {
    std::ostringstream text;
    text << std::boolalpha << value;
    return text.str();
  } else {
    return "a value that cannot be printed";
  }
}

template <typename Actual, typename Expected>
void check_equal(const char* file, int line, const char* expression, const Actual& actual,
                 const Expected& expected) {
  const bool equal = [&] {
    if constexpr (std::integral<Actual> && std::integral<Expected> && !std::same_as<Actual, bool> &&
                  !std::same_as<Expected, bool>) {
      return std::cmp_equal(actual, expected);
    } else {
      return actual == expected;
    }
  }();
  if (!equal) {
    fail(file, line, std::string(expression) + " is " + shown(actual) + ", not " + shown(expected));
  }
}

}  // namespace pipelined::testing

// Macros, because they need the place and the text of what they are given.

#define UNIT_TEST(name)                                                       \
  void unit_##name(const ::pipelined::testing::Context& context);             \
  const ::pipelined::testing::Test test_##name(__FILE__, #name, unit_##name); \
  void unit_##name([[maybe_unused]] const ::pipelined::testing::Context& context)

#define CHECK(...)                                                  \
  do {                                                              \
    if (!(__VA_ARGS__)) {                                           \
      ::pipelined::testing::fail(__FILE__, __LINE__, #__VA_ARGS__); \
    }                                                               \
  } while (false)

// CHECK_EQUAL(actual, expected); integers of different types are compared by value.
#define CHECK_EQUAL(actual, ...) \
  ::pipelined::testing::check_equal(__FILE__, __LINE__, #actual, actual, __VA_ARGS__)

// CHECK_THROWS(Type, expression): exactly of this type, and nothing that derives from it.
#define CHECK_THROWS(type, ...)                                                              \
  do {                                                                                       \
    bool thrown = false;                                                                     \
    try {                                                                                    \
      static_cast<void>(__VA_ARGS__);                                                        \
    } catch (const type& error) {                                                            \
      thrown = typeid(error) == typeid(type);                                                \
    }                                                                                        \
    if (!thrown) {                                                                           \
      ::pipelined::testing::fail(__FILE__, __LINE__, #__VA_ARGS__ " does not throw " #type); \
    }                                                                                        \
  } while (false)
