/* The floating-point state that the arithmetic is defined in: round to nearest, no flushing of denormals. A process may
   have set another (torch.set_flush_denormal does); it gets its own back. */
#ifndef LIME_STATE_H
#define LIME_STATE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
static inline uint64_t float_state(void) { return _mm_getcsr(); }
static inline void set_float_state(uint64_t state) { _mm_setcsr((unsigned)state); }
enum { DEFAULT_STATE = 0x1f80 };
#elif defined(__aarch64__)
static inline uint64_t float_state(void) {
  uint64_t state;
  __asm__ volatile("mrs %0, fpcr" : "=r"(state));
  return state;
}
static inline void set_float_state(uint64_t state) { __asm__ volatile("msr fpcr, %0" : : "r"(state)); }
enum { DEFAULT_STATE = 0 };
#else
#error "lime: no floating-point state known for this processor"
#endif

#endif
