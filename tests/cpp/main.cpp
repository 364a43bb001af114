// The units' tests as a program, for the sanitizers: they see no leak or race of an interpreter.
//
//   weights_tests NAME DIRECTORY LIBRARIES   runs one test; exits with 1 if it fails
//   weights_tests                            prints the names of all

#include <cstdio>
#include <exception>
#include <span>

#include "testing.hpp"

int main(int count, char** values) {
  const std::span arguments(values, static_cast<std::size_t>(count));
  if (arguments.size() == 1) {
    for (const auto* test : pipelined::testing::Test::all()) {
      static_cast<void>(std::puts(test->name().c_str()));
    }
    return 0;
  }
  if (arguments.size() != 4) {
    static_cast<void>(std::fputs("usage: weights_tests NAME DIRECTORY LIBRARIES\n", stderr));
    return 2;
  }
  try {
    for (const auto* test : pipelined::testing::Test::all()) {
      if (test->name() == arguments[1]) {
        test->run({arguments[2], arguments[3]});
        return 0;
      }
    }
    static_cast<void>(std::fputs("there is no such test\n", stderr));
    return 2;
  } catch (const std::exception& error) {
    static_cast<void>(std::fputs(error.what(), stderr));
    return 1;
  }
}
