#ifndef PIPELINED_TESTS_FAKE_CUDA_CONTROL_H
#define PIPELINED_TESTS_FAKE_CUDA_CONTROL_H

#include <stddef.h>
#include <stdint.h>

/* How tests steer the fake CUDA driver, which is hostile on purpose:
 *
 * - A copy from or to pinned memory is done late, by the stream's own thread, which looks at the
 *   host's bytes at that moment: what is refilled early arrives wrong. From and to pageable memory
 *   the call itself waits, as the real driver does.
 * - Device memory is a memfd that only the driver has mapped. A device pointer is an address in a
 *   range without any permission: the host that follows it dies.
 * - Whatever the real driver would leave undefined is an error and is remembered: see fake_report.
 * - A released handle is never given out again.
 *
 * All functions are thread-safe. Those that return text return it in a buffer of the calling
 * thread, valid until its next call of the same function. The driver is one per process; a process
 * that was forked after cuInit gets CUDA_ERROR_NOT_INITIALIZED, as with the real one.
 *
 * When the process ends, the report is printed on stderr if there is any, and with
 * FAKE_CUDA_STRICT=1 in the environment the process then exits with 86.
 */

#ifdef __cplusplus
extern "C" {
#endif

/* Rates are bytes per second, and 0 is as fast as it goes. Figures that are no rate have no such
 * special value. */
typedef struct fake_configuration {
  uint64_t seed;              /* of the delays */
  uint64_t late_microseconds; /* an operation starts up to so long after it was asked for */
  uint64_t lazy;              /* not 0: it starts only once somebody waits for it, or asks */
  uint64_t to_device_rate;    /* all streams share the link, which has two directions */
  uint64_t to_host_rate;      /* */
  uint64_t pageable_rate;     /* instead of the above; 0: the same */
  uint64_t copy_nanoseconds;  /* what each copy costs the link beside its bytes */
  uint64_t pinning_rate;      /* how fast memory is pinned */
  uint64_t device_bytes;      /* memory of each device */
  uint64_t pinned_bytes;      /* more cannot be pinned */
  uint64_t granularity;       /* of device allocations; a power of two */
  uint64_t devices;           /* seen by cuInit */
  uint64_t poison;            /* not 0: new device memory is full of 0xA5, not of zeros */
} fake_configuration;

/* seed 1, 200 microseconds late, not lazy, no rates, 8 GiB on one device, no limit to what may be
 * pinned, granularity 2 MiB, no poison. */
void fake_defaults(fake_configuration* configuration);
/* Takes effect with the next call; a changed seed restarts the sequence of delays. */
void fake_configure(const fake_configuration* configuration);

/* From the n-th call of a function on, counted from now and beginning with 1, `times` calls return
 * the result and do nothing; except those that give something back, which do that and return the
 * result all the same, as the real ones do with errors of earlier work. The function is named as it
 * is exported (cuMemHostRegister_v2); NULL means the n-th call of whatever function. Each call adds
 * a failure; n = 0 forgets those of the function, or with NULL all. */
void fake_fail(const char* function, uint64_t n, uint32_t result, uint64_t times);
/* The n-th copy that a stream begins from now on fails with the result, as do all waits, queries
 * and copies from then on until fake_reset: what an error on the device does. 0 forgets it. */
void fake_fail_copy(uint64_t n, uint32_t result);

/* How often a function was called since fake_forget or fake_reset; of NULL: all together. */
uint64_t fake_calls(const char* function);
/* The functions' names; NULL after the last. */
const char* fake_function(uint64_t index);

/* While held, streams begin nothing: a copy can be made as late as a test likes. */
void fake_hold(int held);
/* Waits for all that was asked of all streams, also if it is lazy. Must not be held. */
void fake_drain(void);

/* Looks at device memory, or changes it as a kernel would, whatever is in flight. Returns 0, or 1
 * and does nothing if not all of the range is mapped. */
int fake_read_device(uint64_t pointer, void* buffer, size_t size);
int fake_write_device(uint64_t pointer, const void* buffer, size_t size);

/* Device memory where the host may read and write it, until fake_close_view(view, size): the bytes
 * themselves, which stay for as long as the view does. NULL if not all of the range is mapped. */
void* fake_open_view(uint64_t pointer, size_t size);
void fake_close_view(void* view, size_t size);

typedef enum fake_statistic {
  FAKE_PINNED_BYTES,     /* now */
  FAKE_PINNED_PEAK,      /* at most, since fake_forget */
  FAKE_DEVICE_BYTES,     /* of all devices, now; what was imported does not count */
  FAKE_DEVICE_PEAK,      /* */
  FAKE_COPIES_TO_DEVICE, /* begun since fake_forget */
  FAKE_BYTES_TO_DEVICE,  /* */
  FAKE_COPIES_TO_HOST,   /* */
  FAKE_BYTES_TO_HOST,    /* */
  FAKE_PAGEABLE_COPIES   /* of these, from or to memory that is not pinned */
} fake_statistic;
uint64_t fake_statistics(fake_statistic which);

/* What was done wrong, one line each, and "" if nothing: double frees, use after destruction, a
 * wrong context or none, copies to what is not mapped or not accessible, memory given back while
 * a copy needs it, misaligned sizes. */
const char* fake_misuse(void);
/* What is still held, one line each: device memory, address ranges, mappings, pinned memory,
 * streams, events, references on contexts, contexts that were pushed. */
const char* fake_leaks(void);
/* fake_misuse and fake_leaks together. */
const char* fake_report(void);

/* Forgets misuse, counts, peaks and failures; everything that exists stays. */
void fake_forget(void);
/* The state before cuInit with the default configuration. Lets work in flight finish, and frees
 * everything; no other thread may be in the driver. */
void fake_reset(void);

#ifdef __cplusplus
}
#endif

#endif
