/* Sixteen candidates at a time, one a lane. The source has one width; the compiler cuts it into the target's
   registers, so every build does the same operations a lane in the same order and gives the same bits. */
#ifndef LIME_VECTOR_H
#define LIME_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("clang loop unroll(full)")

enum { LANES = 16 };

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t m16 __attribute__((vector_size(64)));

/* How many groups of 16 candidates and how many columns of T are multiplied at once: what fits into registers.
   It changes which pairs are computed together, never the operations of a pair. */
#if defined(__AVX512F__)
enum { GROUPS = 4, USERS_AT_ONCE = 6, HIDDEN_AT_ONCE = 4 };
#elif defined(__AVX2__) || defined(__ARM_NEON)
enum { GROUPS = 1, USERS_AT_ONCE = 6, HIDDEN_AT_ONCE = 6 };
#else
enum { GROUPS = 1, USERS_AT_ONCE = 2, HIDDEN_AT_ONCE = 2 };
#endif

INLINE v16 splat(float x) { return (v16){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

INLINE v16 load(const float *x) { return *(const v16 *)x; }

/* a * b + c, rounded once */
INLINE v16 fma16(v16 a, v16 b, v16 c) {
#if __has_builtin(__builtin_elementwise_fma)
  return __builtin_elementwise_fma(a, b, c);
#else
  for (int i = 0; i < LANES; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#endif
}

/* Negative lanes become zero. Which zero is open where a lane is -0, and no score depends on it. */
INLINE v16 relu16(v16 x) { return __builtin_elementwise_max(x, splat(0)); }

/* One bit a lane that holds true. */
INLINE uint32_t bits_of(m16 holds) {
#if __clang_major__ >= 15
  typedef _Bool bits16 __attribute__((ext_vector_type(16)));
  bits16 lanes = __builtin_convertvector(holds, bits16);
  uint16_t bits;
  memcpy(&bits, &lanes, sizeof bits);
#else
  uint32_t bits = 0;
  for (int i = 0; i < LANES; i++) bits |= (uint32_t)(holds[i] & 1) << i;
#endif
  return bits;
}

INLINE uint32_t above(v16 x, v16 y) { return bits_of(x > y); }

/* Lanes whose bit is not set become -infinity. */
INLINE v16 only(v16 x, uint32_t bits) {
#if defined(__AVX512F__)
  return (v16)_mm512_mask_blend_ps((__mmask16)bits, _mm512_set1_ps(-INFINITY), (__m512)x);
#else
  for (int i = 0; i < LANES; i++) x[i] = bits >> i & 1 ? x[i] : -INFINITY;
  return x;
#endif
}

/* No lane is NaN. */
INLINE v16 larger(v16 a, v16 b) {
#if defined(__AVX512F__)
  return (v16)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return __builtin_elementwise_max(a, b);
#endif
}

/* x[i][j] and x[j][i] change places. */
INLINE void transpose(v16 *x) {
#define SWAP(n, KEPT, MOVED)                                                   \
  UNROLL for (int i = 0; i < LANES; i++) {                                     \
    if (i & (n)) continue;                                                     \
    v16 a = x[i], b = x[i + (n)];                                              \
    x[i] = __builtin_shufflevector(a, b, KEPT);                                \
    x[i + (n)] = __builtin_shufflevector(a, b, MOVED);                         \
  }
#define LIST(...) __VA_ARGS__
  SWAP(8, LIST(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
       LIST(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
  SWAP(4, LIST(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
       LIST(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
  SWAP(2, LIST(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
       LIST(2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
  SWAP(1, LIST(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
       LIST(1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
#undef LIST
#undef SWAP
}

/* [n, 16] -> 16 rows, `size` apart. */
INLINE void turn_slab(const float *from, int64_t n, float *to, int64_t size) {
  for (int64_t first = 0; first < n; first += LANES) {
    v16 x[LANES];
    for (int64_t i = 0; i < LANES; i++) x[i] = first + i < n ? load(from + (first + i) * LANES) : splat(0);
    transpose(x);
    for (int64_t i = 0; i < LANES; i++) *(v16 *)(to + i * size + first) = x[i];
  }
}

INLINE float largest(const v16 *x, int64_t n) {
  v16 best = x[0];
  for (int64_t i = 1; i < n; i++) best = larger(best, x[i]);
  for (int i = 1; i < LANES; i++) best[0] = best[i] > best[0] ? best[i] : best[0];
  return best[0];
}

/* sums[c][g] += sum over r, in order, of x[g][r][lane] * t[r][c]; columns and groups are constants where it is inlined */
INLINE void multiply(v16 *sums, const float *x, const float *t, int columns, int groups, int64_t rows) {
  for (int64_t r = 0; r < rows; r++) {
    v16 lanes[GROUPS];
    UNROLL for (int g = 0; g < groups; g++) lanes[g] = load(x + (g * rows + r) * LANES);
    UNROLL for (int c = 0; c < columns; c++) {
      v16 factor = splat(t[r * columns + c]);
      UNROLL for (int g = 0; g < groups; g++) sums[c * groups + g] = fma16(lanes[g], factor, sums[c * groups + g]);
    }
  }
}

/* Run CALL(n) over 0 <= at < total in steps of `widest`, then in what is left of 4, 2 and 1: n is a constant. */
#define IN_CHUNKS(at, total, widest, CALL)                                  \
  do {                                                                      \
    int64_t at = 0;                                                         \
    for (; at + (widest) <= (total); at += (widest)) CALL(widest);          \
    for (; at + 4 <= (total); at += 4) CALL(4);                             \
    for (; at + 2 <= (total); at += 2) CALL(2);                             \
    for (; at < (total); at++) CALL(1);                                     \
  } while (0)

#endif
