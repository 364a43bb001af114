#pragma once

#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <utility>

namespace pipelined::weights {

// A state behind a lock, both of which go on in a process that was forked.
//
// There, the thread that held the lock does not exist: nobody would ever release it, and what it
// guards may be half changed. So the first who locks it in a forked process begins anew, with a
// copy of the state and a lock of its own; where a thread held the lock during the fork, with what
//
//   State interrupted() const;
//
// says of the state can be used. It may read only members that are whole at any time, such as a
// bool: no pointer, and nothing that one thread can see half of what another has written.
//
// Thread-safe. The destructor wants what any destructor wants: nobody else who uses the object.
template <typename State>
class ForkSafe {
  struct Cell {
    explicit Cell(State initial, Cell* older = nullptr)
        : state(std::move(initial)), before(older) {}

    pid_t owner = ::getpid();
    std::mutex mutex;
    // In the owner's child: whether a thread of the owner held the lock. Never changes there.
    std::atomic<bool> held{false};
    State state;
    // That of the process that this one was forked from.
    Cell* before;
  };

 public:
  // Holds the lock while it lives.
  class Access {
   public:
    explicit Access(Cell& cell) : cell_(&cell), lock_(cell.mutex) { cell_->held.store(true); }
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;
    Access(Access&&) noexcept = default;
    Access& operator=(Access&&) = delete;
    ~Access() {
      if (lock_.owns_lock()) {
        cell_->held.store(false);
      }
    }

    [[nodiscard]] State& operator*() const noexcept { return cell_->state; }
    [[nodiscard]] State* operator->() const noexcept { return &cell_->state; }

   private:
    Cell* cell_;
    std::unique_lock<std::mutex> lock_;
  };

  explicit ForkSafe(State initial) : cell_(std::make_unique<Cell>(std::move(initial)).release()) {}
  ForkSafe(const ForkSafe&) = delete;
  ForkSafe& operator=(const ForkSafe&) = delete;
  ForkSafe(ForkSafe&&) = delete;
  ForkSafe& operator=(ForkSafe&&) = delete;
  ~ForkSafe() {
    Cell* cell = cell_.load();
    while (cell != nullptr) {
      std::unique_ptr<Cell> last(cell);
      cell = last->before;
      if (last->held.load()) {
        // Half changed: it could not be destroyed either.
        [[maybe_unused]] const Cell* left_alone = last.release();
      }
    }
  }

  // Waits for the lock. Throws std::bad_alloc.
  [[nodiscard]] Access lock() const { return Access(here()); }

 private:
  Cell& here() const {
    Cell* cell = cell_.load();
    while (cell->owner != ::getpid()) {
      State inherited = cell->held.load() ? cell->state.interrupted() : cell->state;
      auto mine = std::make_unique<Cell>(std::move(inherited), cell);
      // Another thread may be faster, and then its own is the one.
      if (cell_.compare_exchange_strong(cell, mine.get())) {
        cell = mine.release();
      }
    }
    return *cell;
  }

  mutable std::atomic<Cell*> cell_;
};

}  // namespace pipelined::weights
