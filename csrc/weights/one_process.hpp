#pragma once

#include <unistd.h>

#include <memory>

namespace pipelined::weights {

// Takes over an object that has threads or device memory, neither of which a fork inherits: in a
// process that was forked meanwhile it is never destroyed, because its destructor would wait for
// threads that are not there and free what belongs to the parent.
template <typename Object>
std::shared_ptr<Object> for_this_process(std::unique_ptr<Object> object) {
  return {object.release(), [owner = ::getpid()](Object* owned) {
            std::unique_ptr<Object> last(owned);
            if (::getpid() != owner) {
              [[maybe_unused]] const Object* left_alone = last.release();
            }
          }};
}

}  // namespace pipelined::weights
