#pragma once

#include <csignal>

namespace pipelined::weights {

// Blocks all signals in the calling thread while it lives, and so in the threads that are started
// meanwhile: those of the loader must not be the ones that get a signal meant for the program.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t all{};
    static_cast<void>(sigfillset(&all));
    blocked_ = pthread_sigmask(SIG_SETMASK, &all, &previous_) == 0;
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;
  SignalsBlocked(SignalsBlocked&&) = delete;
  SignalsBlocked& operator=(SignalsBlocked&&) = delete;
  ~SignalsBlocked() {
    if (blocked_) {
      static_cast<void>(pthread_sigmask(SIG_SETMASK, &previous_, nullptr));
    }
  }

 private:
  sigset_t previous_{};
  bool blocked_ = false;
};

}  // namespace pipelined::weights
