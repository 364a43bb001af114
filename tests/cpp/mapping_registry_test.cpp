#include "weights/mapping_registry.hpp"

#include <array>
#include <atomic>
#include <string>
#include <string_view>
#include <thread>

#include "files.hpp"
#include "testing.hpp"
#include "weights/file.hpp"
#include "weights/mapping.hpp"

namespace pipelined::weights {
namespace {

// "PATH+OFFSET" of what is mapped at an address; empty for nothing.
std::string found_at(const void* address) {
  const auto found = MappingRegistry::find(address);
  return found ? std::string(found->path) + "+" + std::to_string(found->offset) : "";
}

UNIT_TEST(finds_what_is_published_and_no_more) {
  std::array<char, 100> memory{};
  CHECK(!MappingRegistry::find(memory.data()));
  {
    MappingRegistry::Place place;
    CHECK(!MappingRegistry::find(memory.data()));
    place.publish(memory.data() + 10, 50, "a");
    CHECK(!MappingRegistry::find(memory.data() + 9));
    CHECK(!MappingRegistry::find(memory.data() + 60));
    CHECK_EQUAL(found_at(memory.data() + 10), "a+0");
    CHECK_EQUAL(found_at(memory.data() + 59), "a+49");
    place.withdraw();
    CHECK(!MappingRegistry::find(memory.data() + 10));
    place.publish(memory.data(), 1, "b");
  }
  CHECK(!MappingRegistry::find(memory.data()));
  CHECK(!MappingRegistry::find(nullptr));
}

UNIT_TEST(mappings_are_found) {
  const std::string path = testing::write_file(context.directory / "f", testing::numbered(10'000));
  const std::byte* data = nullptr;
  {
    const File file = File::open(path);
    const Mapping mapping(file);
    data = mapping.data();
    CHECK_EQUAL(found_at(data + 9'999), path + "+9999");
  }
  CHECK(!MappingRegistry::find(data));
}

UNIT_TEST(threads_come_and_go) {
  std::array<char, 64> memory{};
  MappingRegistry::Place lasting;
  lasting.publish(memory.data(), memory.size(), "lasting");
  std::atomic<bool> lost{false};
  {
    const auto work = [&lost, &memory] {
      std::array<char, 8> own{};
      for (int round = 0; round < 2000; ++round) {
        MappingRegistry::Place place;
        place.publish(own.data(), own.size(), "own");
        const auto found = MappingRegistry::find(own.data() + 7);
        const auto other = MappingRegistry::find(memory.data());
        if (!found || std::string_view(found->path) != "own" || !other ||
            std::string_view(other->path) != "lasting") {
          lost.store(true);
        }
      }
    };
    const std::array threads{std::jthread(work), std::jthread(work), std::jthread(work)};
  }
  CHECK(!lost.load());
}

}  // namespace
}  // namespace pipelined::weights
