/* T_u of a user: the links folded with what the package keeps for all items, and the proof that no score overflows. */
#ifndef LIME_FOLD_H
#define LIME_FOLD_H

#include "work.h"

/* fold [H, d, F] -> [H, F / 16, d, 16] */
static void turn_fold(const lime_candidates *c, float *out) {
  int64_t slabs = whole(c->hidden, LANES);
  memset(out, 0, (size_t)(c->heads * slabs * c->width * LANES) * sizeof *out);
  for (int64_t h = 0; h < c->heads; h++)
    for (int64_t i = 0; i < c->width; i++)
      for (int64_t f = 0; f < c->hidden; f++)
        out[((h * slabs + f / LANES) * c->width + i) * LANES + f % LANES] = c->fold[(h * c->width + i) * c->hidden + f];
}

/* One user's P [L, d] -> chunks of [d, n] over l, as `multiply` reads its columns. */
static void turn_links(const lime_candidates *c, const float *P, float *out) {
#define TURN(n)                            \
  for (int64_t i = 0; i < c->width; i++)   \
    for (int64_t j = 0; j < (n); j++) out[l * c->width + i * (n) + j] = P[(l + j) * c->width + i]
  IN_CHUNKS(l, c->links, FOLD_AT_ONCE, TURN);
#undef TURN
}

/* Columns of T that lie side by side, row by row. */
typedef struct {
  int64_t first, count;
} chunk;

/* The chunk that column f is in. */
INLINE chunk chunk_of(const work *w, int64_t f) {
  if (w->linear) return (chunk){0, 1};
  if (w->screened) return (chunk){f - f % LANES, LANES};
  int64_t F = w->c->hidden, first = f - f % HIDDEN_AT_ONCE, n = HIDDEN_AT_ONCE;
  if (first + HIDDEN_AT_ONCE > F) { /* in what is left of 4, 2 and 1 */
    for (n = 4; n > 1 && f >= first + (F - first) / n * n; n /= 2) first += (F - first) / n * n;
    first = f - (f - first) % n;
  }
  return (chunk){first, n};
}

/* Row r of a chunk of T where the scan reads it: user `at` of the block. */
INLINE float *place_of(const work *w, int64_t at, int64_t r, chunk of) {
  if (w->linear) {
    int64_t n = w->screened ? LANES : USERS_AT_ONCE;
    return w->T + ((at / n) * w->rows + r) * n + at % n;
  }
  return w->T + (at * w->c->hidden + of.first) * w->rows + r * of.count;
}

/* n numbers of row r of T, from f on. */
INLINE void write_row(const work *w, int64_t at, int64_t r, int64_t f, int64_t n, const float *sums) {
  if (w->screened && !w->linear) { /* whole slabs: F is a multiple of 16 */
    memcpy(place_of(w, at, r, chunk_of(w, f)), sums, sizeof(v16));
    return;
  }
  for (int64_t i = 0; i < n;) {
    chunk of = chunk_of(w, f + i);
    float *row = place_of(w, at, r, of);
    for (; i < n && f + i < of.first + of.count; i++) row[f + i - of.first] = sums[i];
  }
}

/* T_u = P_u . fold for user `at` of the block. */
static void fold_user(const work *w, int64_t at, const float *P) {
  const lime_candidates *c = w->c;
  int64_t slabs = whole(c->hidden, LANES);
  turn_links(c, P, w->turned);
  for (int64_t h = 0; h < c->heads; h++)
    for (int64_t slab = 0; slab < slabs; slab++) {
      const float *fold = w->fold + (h * slabs + slab) * c->width * LANES;
      int64_t last = c->hidden - slab * LANES < LANES ? c->hidden - slab * LANES : LANES;
#define FOLD(n)                                                                                  \
  {                                                                                              \
    v16 sums[n];                                                                                 \
    UNROLL for (int j = 0; j < (n); j++) sums[j] = splat(0);                                     \
    multiply(sums, fold, w->turned + l * c->width, n, 1, c->width);                              \
    for (int j = 0; j < (n); j++)                                                                \
      write_row(w, at, h * c->links + l + j, slab * LANES, last, (const float *)&sums[j]);       \
  }
      IN_CHUNKS(l, c->links, FOLD_AT_ONCE, FOLD);
#undef FOLD
    }
}

/* No partial sum of any pair can pass this bound, so none overflows: false where it is too near to the limit, or NaN. */
static int is_bounded(const work *w, int64_t at) {
  const lime_candidates *c = w->c;
  double bound = c->b_max;
  chunk of;
  for (int64_t f = 0; f < c->hidden; f += of.count) {
    of = chunk_of(w, f);
    double hidden[LANES];
    for (int64_t i = 0; i < of.count; i++) hidden[i] = w->linear ? 0 : c->G_max[f + i];
    for (int64_t r = 0; r < w->rows; r++) {
      const float *T = place_of(w, at, r, of);
      for (int64_t i = 0; i < of.count; i++) hidden[i] += (double)c->A_max[r] * fabs((double)T[i]);
    }
    for (int64_t i = 0; i < of.count; i++) {
      if (!(hidden[i] < 1e38)) return 0; /* the output weight may be tiny or zero: the hidden sum counts by itself */
      bound += (double)c->W_max[f + i] * hidden[i];
    }
  }
  return bound < 1e38;
}

#endif
