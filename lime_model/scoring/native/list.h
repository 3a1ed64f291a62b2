/* One user's best K so far. Candidates that beat the threshold are noted; when the notes are full they are merged
   into the K best and the threshold rises. Exact, because the scan is in order of position: a later candidate with
   the threshold's own score loses the tie. */
#ifndef LIME_LIST_H
#define LIME_LIST_H

#include "vector.h"

enum { SLACK = GROUPS * LANES };  /* a tile may add so many notes before anybody looks */

typedef struct {
  float *scores;         /* notes since the last merge, in order of position */
  float *most;           /* where scores are estimates: `scores` hold the least that a note may have, these the most */
  uint32_t *positions;
  int64_t *best;         /* keys of the best so far, in no order: K, and notes while they are merged */
  int64_t notes, kept;
  const int64_t *denied; /* the user's denied positions, sorted; those before are dealt with */
  const int64_t *denied_end;
} list;

/* An integer that compares like the float, and back. */
INLINE int32_t ordered_of(float x) {
  int32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits < 0 ? bits ^ 0x7fffffff : bits;
}

INLINE float float_of(int32_t ordered) {
  int32_t bits = ordered < 0 ? ordered ^ 0x7fffffff : ordered;
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* Higher score first, then lower position: one integer that compares like the pair. */
INLINE int64_t key_of(float score, uint32_t position) {
  return (int64_t)((uint64_t)(int64_t)ordered_of(score) << 32) | (uint32_t)~position;
}

INLINE float score_of(int64_t key) { return float_of((int32_t)(key >> 32)); }

INLINE uint32_t position_of(int64_t key) { return ~(uint32_t)key; }

/* The lanes whose bit is set, side by side. Writes 16 entries. */
INLINE void pack(void *to, v16 x, uint32_t bits) {
#if defined(__AVX512F__)
  _mm512_storeu_ps(to, _mm512_maskz_compress_ps((__mmask16)bits, (__m512)x));
#else
  float packed[LANES] = {0};
  int64_t n = 0;
  for (; bits; bits &= bits - 1) packed[n++] = x[__builtin_ctz(bits)];
  memcpy(to, packed, sizeof packed);
#endif
}

/* Note the lanes whose bit is set. Writes up to 16 entries past the notes. */
INLINE void note(list *l, v16 scores, uint32_t bits, uint32_t position) {
#if defined(__AVX512F__)
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  __m512i at = _mm512_add_epi32(_mm512_set1_epi32((int)position), lane);
  pack(l->scores + l->notes, scores, bits);
  _mm512_storeu_si512(l->positions + l->notes, _mm512_maskz_compress_epi32((__mmask16)bits, at));
  l->notes += __builtin_popcount(bits);
#else
  float each[LANES] __attribute__((aligned(64)));
  *(v16 *)each = scores;
  for (; bits; bits &= bits - 1) {
    int i = __builtin_ctz(bits);
    l->scores[l->notes] = each[i];
    l->positions[l->notes++] = position + (uint32_t)i;
  }
#endif
}

INLINE int64_t median(int64_t a, int64_t b, int64_t c) {
  int64_t low = a < b ? a : b, high = a < b ? b : a;
  return c < low ? low : c > high ? high : c;
}

/* Bring the k largest of n distinct keys to the front. `spare` holds n. */
static void select_largest(int64_t *keys, int64_t n, int64_t k, int64_t *spare) {
  int64_t from = 0, to = n; /* the border lies between them; keys before `from` are in, from `to` on out */
  while (from < k && k < to) {
    int64_t pivot = median(keys[from], keys[from + (to - from) / 2], keys[to - 1]);
    int64_t in = from, out = 0;
    for (int64_t i = from; i < to; i++) { /* no branch depends on a key */
      int64_t key = keys[i], larger = key > pivot;
      spare[out] = key;
      keys[in] = key;
      in += larger;
      out += !larger;
    }
    memcpy(keys + in, spare, (size_t)out * sizeof *keys);
    if (k <= in) {
      to = in;
    } else { /* the pivot itself is the next largest: bring it to the border */
      int64_t at = in;
      while (keys[at] != pivot) at++;
      keys[at] = keys[in];
      keys[in] = pivot;
      from = in + 1;
    }
  }
}

/* Merge the notes into the K best; the threshold is the K-th score, -infinity while there are fewer. */
static float merge(list *l, int64_t k, int64_t *spare) {
  int64_t n = l->kept;
  if (l->denied == l->denied_end) {
    for (int64_t i = 0; i < l->notes; i++) l->best[n + i] = key_of(l->scores[i], l->positions[i]);
    n += l->notes;
  } else {
    for (int64_t i = 0; i < l->notes; i++) {
      while (l->denied < l->denied_end && *l->denied < l->positions[i]) l->denied++;
      l->best[n] = key_of(l->scores[i], l->positions[i]);
      n += !(l->denied < l->denied_end && *l->denied == l->positions[i]);
    }
  }
  l->notes = 0;
  select_largest(l->best, n, k, spare);
  l->kept = n < k ? n : k;
  if (n < k) return -INFINITY;
  int64_t lowest = l->best[0];
  for (int64_t i = 1; i < k; i++) lowest = l->best[i] < lowest ? l->best[i] : lowest;
  return score_of(lowest);
}

enum { COUNTED = 64 }; /* up to here counting larger keys is faster than more halves: it has no branches */

/* The largest first. `spare` holds n. */
static void sort_largest(int64_t *keys, int64_t n, int64_t *spare) {
  int64_t half = n / 2;
  if (n > COUNTED) {
    select_largest(keys, n, half, spare);
    sort_largest(keys, half, spare);
    sort_largest(keys + half, n - half, spare);
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    int64_t key = keys[i], rank = 0;
    for (int64_t j = 0; j < n; j++) rank += keys[j] > key;
    spare[rank] = key;
  }
  memcpy(keys, spare, (size_t)n * sizeof *spare);
}

#endif
