#include "weights/population.hpp"

#include <cerrno>
#include <filesystem>
#include <memory>
#include <thread>

#include "files.hpp"
#include "testing.hpp"
#include "weights/file.hpp"
#include "weights/mapping.hpp"

namespace pipelined::weights {
namespace {

using testing::write_zeros;

constexpr std::uint64_t mib = std::uint64_t{1} << 20U;

// Another thread brings it about.
void wait_for_end(const Progress& progress) {
  while (!progress.finished() && progress.error() == 0) {
    std::this_thread::yield();
  }
}

UNIT_TEST(reads_everything_from_the_beginning_given) {
  for (const std::uint64_t begin : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{4096},
                                    std::uint64_t{5000}, 40 * mib - 1}) {
    const File file = File::open(write_zeros(context.directory / "f", 40 * mib));
    const Mapping mapping(file);
    Population population(file, mapping, begin, 40 * mib - begin, Source::disk);
    population.start();
    population.start();
    wait_for_end(*population.progress());
    CHECK_EQUAL(population.progress()->error(), 0);
    CHECK_EQUAL(population.progress()->loaded_bytes(), 40 * mib - begin);
    if (begin == 0) {
      CHECK(mapping.sample_resident());
    }
    std::filesystem::remove(context.directory / "f");
  }
}

UNIT_TEST(what_is_in_memory_is_not_read) {
  const File file = File::open(write_zeros(context.directory / "f", 40 * mib));
  const Mapping mapping(file);
  Population population(file, mapping, 0, 40 * mib, Source::page_cache);
  CHECK(!population.progress()->finished().has_value());
  population.start();
  CHECK(population.progress()->finished().has_value());
  CHECK(!mapping.sample_resident());
}

UNIT_TEST(nothing_is_read_at_once) {
  const File file = File::open(write_zeros(context.directory / "f", 4096));
  const Mapping mapping(file);
  Population population(file, mapping, 4096, 0, Source::disk);
  population.start();
  CHECK(population.progress()->finished().has_value());
}

UNIT_TEST(a_file_cut_short_is_a_failure_in_the_progress) {
  const auto path = context.directory / "f";
  const File file = File::open(write_zeros(path, 40 * mib));
  const Mapping mapping(file);
  Population population(file, mapping, 0, 40 * mib, Source::unknown);
  std::filesystem::resize_file(path, 20 * mib);
  population.start();
  wait_for_end(*population.progress());
  CHECK_EQUAL(population.progress()->error(), EFAULT);
  CHECK(!population.progress()->finished().has_value());
}

UNIT_TEST(ends_when_it_is_dropped) {
  const File file = File::open(write_zeros(context.directory / "f", 256 * mib));
  for (int round = 0; round < 20; ++round) {
    const Mapping mapping(file);
    std::shared_ptr<Progress> progress;
    {
      Population population(file, mapping, 0, 256 * mib, Source::disk);
      progress = population.progress();
      population.start();
    }
    // No thread is left that would count on.
    const std::uint64_t loaded = progress->loaded_bytes();
    std::this_thread::yield();
    CHECK_EQUAL(progress->loaded_bytes(), loaded);
  }
}

}  // namespace
}  // namespace pipelined::weights
