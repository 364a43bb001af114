#include "weights/fault_reporter.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "weights/errors.hpp"
#include "weights/mapping_registry.hpp"

namespace pipelined::weights {
namespace {

struct Settings {
  int descriptor;
  std::string prefix;
};

// What the handler reads. The action is written before the handler is installed and never again.
// NOLINTBEGIN(cppcoreguidelines-avoid-non-const-global-variables)
constinit std::atomic<const Settings*> current{nullptr};
struct sigaction previous{};
// NOLINTEND(cppcoreguidelines-avoid-non-const-global-variables)

// One line, built without allocating. What does not fit is left out.
class Line {
 public:
  void add(std::string_view text) noexcept {
    for (const char character : text) {
      if (size_ < text_.size()) {
        text_.at(size_++) = character;
      }
    }
  }
  // A file may have any name, but a line has to stay one.
  void add_path(std::string_view path) noexcept {
    for (const char& character : path.substr(path.size() - std::min(path.size(), longest_path))) {
      add(static_cast<unsigned char>(character) < 0x20 ? "?" : std::string_view(&character, 1));
    }
  }
  void add(std::uint64_t number) noexcept {
    std::array<char, 20> digits{};
    std::size_t first = digits.size();
    do {
      digits.at(--first) = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    add(std::string_view(digits.data() + first, digits.size() - first));
  }
  void write_to(int descriptor) const noexcept {
    std::size_t written = 0;
    while (written < size_) {
      const ssize_t count = ::write(descriptor, text_.data() + written, size_ - written);
      if (count < 0 && errno == EINTR) {
        continue;
      }
      if (count <= 0) {
        // Nobody is left to be told.
        return;
      }
      written += static_cast<std::size_t>(count);
    }
  }

 private:
  // A pipe takes up to 4096 bytes in one piece; the end of a path says more than its beginning.
  static constexpr std::size_t longest_path = 3072;
  std::array<char, 4096> text_{};
  std::size_t size_ = 0;
};

void report(const Settings& settings, const MappingRegistry::Found& found) noexcept {
  Line line;
  // Whatever was printed before may lack its end.
  line.add("\n");
  line.add(settings.prefix);
  line.add("weights file ");
  line.add_path(found.path);
  line.add(" changed while it was mapped: byte ");
  line.add(found.offset);
  line.add(" cannot be read\n");
  line.write_to(settings.descriptor);
}

// Async-signal-safe throughout. The type is the system's.
// NOLINTNEXTLINE(misc-const-correctness)
void on_fault(int number, siginfo_t* info, void* /*context*/) {
  const int code = errno;
  // Positive codes are the kernel's own; only then is there an address.
  const bool touched = info->si_code > 0;
  if (touched) {
    if (const auto found = MappingRegistry::find(info->si_addr)) {
      report(*current.load(), *found);
    }
  }
  if (::sigaction(number, &previous, nullptr) != 0) {
    ::_exit(128 + number);
  }
  // Whoever touched the byte does so again when this returns. Others have to be told again.
  if (!touched && ::raise(number) != 0) {
    ::_exit(128 + number);
  }
  errno = code;
}

}  // namespace

void report_faults(int descriptor, std::string_view prefix) {
  static std::mutex mutex;
  // All that there ever were: a handler may be reading any of them.
  static std::vector<std::unique_ptr<const Settings>> settings;
  const std::scoped_lock lock(mutex);
  const bool installed = !settings.empty();
  settings.push_back(std::make_unique<const Settings>(Settings{descriptor, std::string(prefix)}));
  current.store(settings.back().get());
  if (installed) {
    return;
  }
  struct sigaction action{};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  if (::sigemptyset(&action.sa_mask) != 0 || ::sigaction(SIGBUS, nullptr, &previous) != 0 ||
      ::sigaction(SIGBUS, &action, nullptr) != 0) {
    const int code = errno;
    current.store(nullptr);
    settings.pop_back();
    throw IoError("sigaction", "", code);
  }
}

}  // namespace pipelined::weights
