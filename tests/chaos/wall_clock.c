// Loaded before the C library (LD_PRELOAD): adds an offset to the time of day that the interpreter
// and SQLite see. The offset is a 64-bit number of seconds in a file that CHAOS_CLOCK names; it is
// mapped, so that a change is seen at once by all processes. The clocks that never jump are left
// alone, and so are callers in other libraries: some wait in the kernel until a time of day, and
// the kernel's own clock has not jumped.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t* offset;
static int (*real_clock_gettime)(clockid_t, struct timespec*);

__attribute__((constructor)) static void prepare(void) {
  real_clock_gettime = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
  const char* path = getenv("CHAOS_CLOCK");
  int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return;
  }
  void* page = mmap(NULL, sizeof(*offset), PROT_READ, MAP_SHARED, file, 0);
  close(file);
  offset = page == MAP_FAILED ? NULL : (const volatile int64_t*)page;
}

static int64_t offset_for(void* caller) {
  Dl_info object;
  if (offset == NULL || dladdr(caller, &object) == 0 || object.dli_fname == NULL) {
    return 0;
  }
  const char* slash = strrchr(object.dli_fname, '/');
  const char* name = slash == NULL ? object.dli_fname : slash + 1;
  int fooled = strncmp(name, "python", 6) == 0 || strncmp(name, "libpython", 9) == 0 ||
               strncmp(name, "libsqlite3", 10) == 0 || strncmp(name, "_sqlite3", 8) == 0;
  return fooled ? *offset : 0;
}

int clock_gettime(clockid_t clock, struct timespec* now) {
  if (real_clock_gettime == NULL) {
    prepare();
  }
  int result = real_clock_gettime(clock, now);
  if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    now->tv_sec += offset_for(__builtin_return_address(0));
  }
  return result;
}

int gettimeofday(struct timeval* restrict now, void* restrict zone) {
  (void)zone;
  struct timespec precise;
  if (real_clock_gettime == NULL) {
    prepare();
  }
  int result = real_clock_gettime(CLOCK_REALTIME, &precise);
  now->tv_sec = precise.tv_sec + offset_for(__builtin_return_address(0));
  now->tv_usec = precise.tv_nsec / 1000;
  return result;
}

time_t time(time_t* result) {
  struct timespec precise;
  if (real_clock_gettime == NULL) {
    prepare();
  }
  real_clock_gettime(CLOCK_REALTIME, &precise);
  time_t now = precise.tv_sec + offset_for(__builtin_return_address(0));
  if (result != NULL) {
    *result = now;
  }
  return now;
}
