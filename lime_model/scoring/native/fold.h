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

/* T[r, f] where the scan reads it: user `at` of the block. */
INLINE float *place_of(const work *w, int64_t at, int64_t r, int64_t f) {
  if (w->linear) {
    int64_t n = w->screened ? LANES : USERS_AT_ONCE;
    return w->T + ((at / n) * w->rows + r) * n + at % n;
  }
  if (w->screened) return w->T + ((at * w->c->hidden + f - f % LANES) * w->rows + r * LANES) + f % LANES;
  int64_t F = w->c->hidden, start = f - f % HIDDEN_AT_ONCE, n = HIDDEN_AT_ONCE;
  if (start + HIDDEN_AT_ONCE > F) { /* in what is left of 4, 2 and 1 */
    for (n = 4; n > 1 && f >= start + (F - start) / n * n; n /= 2) start += (F - start) / n * n;
    start = f - (f - start) % n;
  }
  return w->T + (at * F + start) * w->rows + r * n + (f - start);
}

/* n numbers of row r of T, from f on. */
INLINE void write_row(const work *w, int64_t at, int64_t r, int64_t f, int64_t n, const float *sums) {
  if (w->screened && !w->linear)
    memcpy(place_of(w, at, r, f), sums, sizeof(v16)); /* whole slabs: F is a multiple of 16 */
  else
    for (int64_t i = 0; i < n; i++) *place_of(w, at, r, f + i) = sums[i];
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
  for (int64_t f = 0; f < c->hidden; f++) {
    const float *T = place_of(w, at, 0, f);
    int64_t step = w->rows > 1 ? place_of(w, at, 1, f) - T : 0; /* the same from row to row */
    double hidden = w->linear ? 0 : c->G_max[f];
    for (int64_t r = 0; r < w->rows; r++) hidden += (double)c->A_max[r] * fabs((double)T[r * step]);
    if (!(hidden < 1e38)) return 0; /* the output weight may be tiny or zero: the hidden sum counts by itself */
    bound += (double)c->W_max[f] * hidden;
  }
  return bound < 1e38;
}

#endif
