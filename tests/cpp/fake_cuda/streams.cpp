#include "streams.hpp"

#include <algorithm>
#include <utility>

namespace fake_cuda {

void Streams::behave(const Behaviour& behaviour) {
  behaviour_ = behaviour;
  changed_.notify_all();
}

void Streams::hold(bool held) {
  held_ = held;
  changed_.notify_all();
}

void Streams::reap() {
  std::erase_if(streams_, [](const std::shared_ptr<Stream>& stream) {
    if (stream->finished) {
      // To have said so was the last thing that the thread did with the mutex.
      stream->thread.join();
    }
    return stream->finished;
  });
}

std::shared_ptr<Stream> Streams::create(cuda::Context context, bool is_default, bool blocking) {
  reap();
  auto stream = std::make_shared<Stream>();
  stream->context = context;
  stream->is_default = is_default;
  stream->blocking = blocking;
  stream->thread = std::thread([this, stream] { run(stream); });
  streams_.push_back(stream);
  return stream;
}

void Streams::retire(Stream& stream) {
  stream.retired = true;
  stream.demanded = stream.last_number;
  changed_.notify_all();
}

std::shared_ptr<Completion> Streams::enqueue(const std::shared_ptr<Stream>& stream,
                                             std::optional<Transfer> transfer,
                                             std::shared_ptr<Completion> after) {
  Operation operation;
  operation.transfer = transfer;
  if (after) {
    operation.after.push_back(std::move(after));
  }
  for (const auto& other : streams_) {
    const bool ordered =
        stream->is_default ? other->blocking : stream->blocking && other->is_default;
    if (ordered && other->context == stream->context && other->last) {
      operation.after.push_back(other->last);
    }
  }
  operation.earliest = Clock::now();
  if (transfer && behaviour_.late.count() > 0) {
    const auto most = static_cast<std::uint64_t>(behaviour_.late.count());
    operation.earliest += std::chrono::microseconds(random_() % (most + 1));
  }
  operation.completion = std::make_shared<Completion>();
  operation.completion->stream = stream;
  operation.completion->number = ++stream->last_number;
  stream->last = operation.completion;
  stream->queue.push_back(std::move(operation));
  changed_.notify_all();
  return stream->last;
}

void Streams::demand(const Completion& completion) {
  const std::shared_ptr<Stream> stream = completion.stream.lock();
  if (stream && stream->demanded < completion.number) {
    stream->demanded = completion.number;
    changed_.notify_all();
  }
}

void Streams::wait(Lock& lock, const Completion& completion) {
  demand(completion);
  changed_.wait(lock, [&] { return completion.done || stopping_; });
}

void Streams::drain(Lock& lock, cuda::Context context) {
  // What is asked for meanwhile, by others, is not waited for.
  std::vector<std::shared_ptr<Completion>> awaited;
  for (const auto& stream : streams_) {
    if (stream->last && (context == nullptr || stream->context == context)) {
      awaited.push_back(stream->last);
    }
  }
  for (const auto& completion : awaited) {
    wait(lock, *completion);
  }
}

void Streams::shut_down(Lock& lock) {
  stopping_ = true;
  changed_.notify_all();
  const auto streams = std::exchange(streams_, {});
  lock.unlock();
  for (const auto& stream : streams) {
    stream->thread.join();
  }
  lock.lock();
  held_ = false;
  stopping_ = false;
}

bool Streams::any(const std::function<bool(const Transfer&)>& condition, bool copying) const {
  return std::ranges::any_of(streams_, [&](const auto& stream) {
    return std::ranges::any_of(stream->queue, [&](const Operation& operation) {
      return operation.transfer && (operation.copying || !copying) &&
             condition(*operation.transfer);
    });
  });
}

bool Streams::may_begin(const Stream& stream) const {
  if (stream.queue.empty() || held_) {
    return false;
  }
  return !behaviour_.lazy || stream.queue.front().completion->number <= stream.demanded;
}

void Streams::run(const std::shared_ptr<Stream>& stream) {
  Lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] {
      return stopping_ || may_begin(*stream) || (stream->retired && stream->queue.empty());
    });
    if (stopping_ || stream->queue.empty()) {
      break;
    }
    // What is appended meanwhile leaves references to a deque's elements valid.
    Operation& operation = stream->queue.front();
    Clock::time_point ready = std::max(operation.earliest, stream->free_at);
    for (const auto& before : operation.after) {
      wait(lock, *before);
      ready = std::max(ready, before->at);
    }
    if (operation.earliest > Clock::now()) {
      lock.unlock();
      std::this_thread::sleep_until(operation.earliest);
      lock.lock();
    }
    changed_.wait(lock, [&] { return stopping_ || !held_; });
    if (stopping_) {
      break;
    }
    stream->free_at = ready;
    if (operation.transfer) {
      stream->free_at = perform_(lock, *operation.transfer, operation.copying, ready);
    }
    operation.completion->at = stream->free_at;
    operation.completion->done = true;
    stream->queue.pop_front();
    changed_.notify_all();
  }
  stream->finished = true;
}

}  // namespace fake_cuda
