#include "weights/page_map.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "files.hpp"
#include "testing.hpp"
#include "weights/file.hpp"
#include "weights/mapping.hpp"

namespace pipelined::weights {
namespace {

using testing::numbered;
using testing::write_file;
using testing::write_zeros;

// Ten pages, the last of which the file fills only in part.
struct Mapped {
  explicit Mapped(const testing::Context& context)
      : file(File::open(write_file(context.directory / "f", numbered(9 * page + 100)))),
        mapping(file) {}

  [[nodiscard]] std::byte* at(std::size_t index) const { return mapping.data() + index * page; }
  [[nodiscard]] std::span<std::byte> pages(std::size_t first, std::size_t count) const {
    return {at(first), count * page};
  }

  std::size_t page = Mapping::page_bytes();
  File file;
  Mapping mapping;
};

UNIT_TEST(nothing_touched_is_nothing_there) {
  const Mapped mapped(context);
  const std::vector<PageRun> runs = PageMap().runs({mapped.mapping.data(), mapped.mapping.size()});
  CHECK_EQUAL(runs.size(), 1);
  CHECK(runs[0].begin == mapped.at(0));
  CHECK_EQUAL(runs[0].bytes, 10 * mapped.page);
  CHECK(runs[0].kind == PageKind::absent);
}

UNIT_TEST(what_was_read_is_the_files) {
  const Mapped mapped(context);
  CHECK_EQUAL(mapped.mapping.populate(0, 10 * mapped.page), 0);
  const PageMap pages;
  const std::vector<PageRun> runs = pages.runs(mapped.pages(0, 10));
  CHECK_EQUAL(runs.size(), 1);
  CHECK(runs[0].kind == PageKind::file);
  CHECK(pages.untouched(mapped.pages(0, 10)));
}

UNIT_TEST(what_was_written_is_a_copy_and_its_neighbours_are_not) {
  const Mapped mapped(context);
  const std::size_t page = mapped.page;
  CHECK_EQUAL(mapped.mapping.populate(0, 10 * page), 0);
  mapped.at(3)[page - 1] = std::byte{1};
  mapped.at(9)[0] = std::byte{1};
  const PageMap pages;
  const std::vector<PageRun> runs = pages.runs(mapped.pages(0, 10));
  CHECK_EQUAL(runs.size(), 4);
  CHECK(runs[1].begin == mapped.at(3));
  CHECK_EQUAL(runs[1].bytes, page);
  CHECK(runs[1].kind == PageKind::copy);
  CHECK(runs[2].kind == PageKind::file);
  CHECK(runs[3].begin == mapped.at(9));
  CHECK(runs[3].kind == PageKind::copy);
  CHECK(pages.untouched(mapped.pages(0, 3)));
  CHECK(!pages.untouched(mapped.pages(0, 4)));
  CHECK(pages.untouched(mapped.pages(4, 5)));
  // Of a range that begins or ends within a page, all of the page counts.
  CHECK(!pages.untouched({mapped.at(2) + 5, page}));
  CHECK(pages.untouched({mapped.at(2) + 5, page - 5}));
  CHECK(!pages.untouched({mapped.at(9) + 99, 1}));
  CHECK(pages.untouched({mapped.at(9), 0}));
}

UNIT_TEST(what_is_written_before_it_is_read_is_a_copy) {
  const Mapped mapped(context);
  mapped.at(5)[0] = std::byte{1};
  CHECK(!PageMap().untouched(mapped.pages(5, 1)));
}

UNIT_TEST(knows_more_pages_than_it_asks_for_at_once) {
  const std::size_t page = Mapping::page_bytes();
  const std::size_t count = 9000;
  const File file = File::open(write_zeros(context.directory / "f", count * page));
  const Mapping mapping(file);
  for (const std::size_t index :
       {std::size_t{0}, std::size_t{4095}, std::size_t{4096}, count - 1}) {
    mapping.data()[index * page] = std::byte{1};
  }
  const std::vector<PageRun> runs = PageMap().runs({mapping.data(), mapping.size()});
  std::size_t copies = 0;
  const std::byte* next = mapping.data();
  for (const PageRun& run : runs) {
    CHECK(run.begin == next);
    next += run.bytes;
    copies += is_copy(run.kind) ? run.bytes / page : 0;
  }
  CHECK(next == mapping.data() + mapping.size());
  CHECK_EQUAL(copies, 4);
}

UNIT_TEST(a_copy_that_is_given_back_is_the_files_again) {
  const Mapped mapped(context);
  mapped.at(5)[0] = std::byte{1};
  CHECK(!PageMap().untouched(mapped.pages(0, 10)));
  CHECK_EQUAL(::madvise(mapped.at(5), mapped.page, MADV_DONTNEED), 0);
  CHECK(PageMap().untouched(mapped.pages(0, 10)));
}

UNIT_TEST(a_forked_process_asks_about_itself) {
  const Mapped mapped(context);
  mapped.at(1)[0] = std::byte{1};
  const pid_t child = ::fork();
  if (child == 0) {
    mapped.at(2)[0] = std::byte{1};
    const PageMap pages;
    // What the parent wrote is in memory that only the two have.
    const bool right = !pages.untouched(mapped.pages(1, 1)) &&
                       !pages.untouched(mapped.pages(2, 1)) && pages.untouched(mapped.pages(3, 7));
    ::_exit(right ? 0 : 1);
  }
  int status = 0;
  CHECK_EQUAL(::waitpid(child, &status, 0), child);
  CHECK_EQUAL(status, 0);
  CHECK(PageMap().untouched(mapped.pages(2, 8)));
}

}  // namespace
}  // namespace pipelined::weights
