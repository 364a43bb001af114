#include "weights/fault_reporter.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <functional>
#include <string>

#include "files.hpp"
#include "testing.hpp"
#include "weights/file.hpp"
#include "weights/mapping.hpp"

namespace pipelined::weights {
namespace {

// What a process wrote, and the signal that ended it (0 if it was none).
struct End {
  std::string said;
  int signal = 0;
};

// Runs the action in a child that reports its faults.
End end_of(const std::function<void(int descriptor)>& action) {
  std::array<int, 2> ends{};
  CHECK_EQUAL(::pipe(ends.data()), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    // A sanitizer would have a handler of its own, and survive.
    static_cast<void>(std::signal(SIGBUS, SIG_DFL));
    action(ends[1]);
    ::_exit(0);
  }
  static_cast<void>(::close(ends[1]));
  End end;
  std::array<char, 4096> buffer{};
  for (ssize_t count = 0; (count = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
    end.said.append(buffer.data(), static_cast<std::size_t>(count));
  }
  static_cast<void>(::close(ends[0]));
  int status = 0;
  CHECK_EQUAL(::waitpid(child, &status, 0), child);
  end.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return end;
}

std::byte touch(const volatile std::byte* address) { return *address; }

UNIT_TEST(names_the_file_that_was_cut_short) {
  const auto path = context.directory / "model\n.safetensors";
  testing::write_zeros(path, 1U << 20U);
  const End end = end_of([&path](int descriptor) {
    report_faults(-1, "");
    report_faults(descriptor, "worker: ");
    const File file = File::open(path.string());
    const Mapping mapping(file);
    std::filesystem::resize_file(path, 4096);
    static_cast<void>(touch(mapping.data() + 100));
    static_cast<void>(touch(mapping.data() + 8192));
  });
  CHECK_EQUAL(end.signal, SIGBUS);
  CHECK_EQUAL(end.said, "\nworker: weights file " +
                            (context.directory / "model?.safetensors").string() +
                            " changed while it was mapped: byte 8192 cannot be read\n");
}

UNIT_TEST(keeps_to_one_piece_of_a_pipe) {
  auto path = context.directory;
  while (path.string().size() < 3500) {
    path /= std::string(200, 'd');
  }
  std::filesystem::create_directories(path);
  path /= "model.safetensors";
  testing::write_zeros(path, 8192);
  const End end = end_of([&path](int descriptor) {
    report_faults(descriptor, "");
    const File file = File::open(path.string());
    const Mapping mapping(file);
    std::filesystem::resize_file(path, 0);
    static_cast<void>(touch(mapping.data()));
  });
  CHECK_EQUAL(end.signal, SIGBUS);
  CHECK(end.said.size() < 4096);
  CHECK(end.said.ends_with(
      "/model.safetensors changed while it was mapped: byte 0 cannot be read\n"));
}

UNIT_TEST(says_nothing_of_other_memory) {
  const std::string path = testing::write_zeros(context.directory / "f", 8192);
  const End end = end_of([&path](int descriptor) {
    report_faults(descriptor, "");
    const File file = File::open(path);
    const void* data = ::mmap(nullptr, 8192, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
    std::filesystem::resize_file(path, 0);
    static_cast<void>(touch(static_cast<const volatile std::byte*>(data)));
  });
  CHECK_EQUAL(end.signal, SIGBUS);
  CHECK_EQUAL(end.said, "");
}

UNIT_TEST(a_signal_that_was_sent_ends_the_process_as_before) {
  const End end = end_of([](int descriptor) {
    report_faults(descriptor, "");
    static_cast<void>(::raise(SIGBUS));
  });
  CHECK_EQUAL(end.signal, SIGBUS);
  CHECK_EQUAL(end.said, "");
}

UNIT_TEST(whoever_was_there_before_is_asked_next) {
  const std::string path = testing::write_zeros(context.directory / "f", 8192);
  const End end = end_of([&path](int descriptor) {
    static_cast<void>(std::signal(SIGBUS, [](int /*number*/) { ::_exit(7); }));
    report_faults(descriptor, "");
    const File file = File::open(path);
    const Mapping mapping(file);
    std::filesystem::resize_file(path, 0);
    static_cast<void>(touch(mapping.data()));
  });
  CHECK_EQUAL(end.signal, 0);
  CHECK(end.said.find("cannot be read") != std::string::npos);
}

}  // namespace
}  // namespace pipelined::weights
