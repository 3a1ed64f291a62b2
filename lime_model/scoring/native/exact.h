/* Pairs scored in the written order, several of a user together, from candidates whose numbers lie side by side. */
#ifndef LIME_EXACT_H
#define LIME_EXACT_H

#include "work.h"

static __attribute__((noinline)) void turn_group(const work *w, int64_t group) {
  const lime_candidates *c = w->c;
  const candidate_rows *kept = &w->side_by_side;
  float *rows = kept->rows + group * LANES * kept->size;
  turn_slab(c->A + group * w->rows * LANES, w->rows, rows, kept->size);
  if (c->G) turn_slab(c->G + group * c->hidden * LANES, c->hidden, rows + kept->G, kept->size);
  if (c->W) turn_slab(c->W + group * c->hidden * LANES, c->hidden, rows + kept->W, kept->size);
  kept->turned[group] = 1;
}

static void copy_slab(const float *from, int64_t n, float *to) {
  for (int64_t i = 0; i < n; i++) to[i] = from[i * LANES];
}

/* A candidate's numbers side by side; where not all are kept so, a copy of them for the n-th that awaits its score. Of a
   linear head what A there is, in steps of 16: a copy would take longer than it saves. */
INLINE const float *row_of(const work *w, uint32_t position, int n) {
  const lime_candidates *c = w->c;
  const candidate_rows *kept = &w->side_by_side;
  int64_t group = position / LANES, lane = position % LANES;
  if (w->linear) return c->A + group * w->rows * LANES + lane;
  if (kept->all) {
    if (!kept->turned[group]) turn_group(w, group);
    return kept->rows + position * kept->size;
  }
  float *row = kept->rows + n * kept->size;
  copy_slab(c->A + group * w->rows * LANES + lane, w->rows, row);
  if (c->G) copy_slab(c->G + group * c->hidden * LANES + lane, c->hidden, row + kept->G);
  if (c->W) copy_slab(c->W + group * c->hidden * LANES + lane, c->hidden, row + kept->W);
  return row;
}

INLINE void prefetch_row(const work *w, uint32_t position) {
  const candidate_rows *kept = &w->side_by_side;
  if (!kept->all) return;
  for (int64_t i = 0; i < kept->size; i += LANES) __builtin_prefetch(kept->rows + position * kept->size + i);
}

enum { AT_ONCE = 4 }; /* pairs, and vectors of a hidden layer, whose sums fit into registers together */

/* Part of the hidden layers of n pairs of one user, from the j-th that awaits its score: m vectors, whose lanes are f. */
INLINE void hidden_part(const work *w, int j, int n, int64_t first, int m) {
  const lime_candidates *c = w->c;
  awaited *a = w->awaited;
  const float *T = w->T + (a->users[j] * c->hidden + first * LANES) * w->rows, *const *rows = a->rows + j;
  v16 sums[AT_ONCE * AT_ONCE], column[AT_ONCE];
  UNROLL for (int i = 0; i < n; i++) {
    const float *G = (c->G ? rows[i] + w->side_by_side.G : c->g) + first * LANES;
    memcpy(sums + i * m, G, (size_t)m * sizeof(v16));
  }
  for (int64_t r = 0; r < w->rows; r++) {
    UNROLL for (int s = 0; s < m; s++) column[s] = load(T + (s * w->rows + r) * LANES);
    UNROLL for (int i = 0; i < n; i++)
      UNROLL for (int s = 0; s < m; s++) sums[i * m + s] = fma16(splat(rows[i][r]), column[s], sums[i * m + s]);
  }
  UNROLL for (int i = 0; i < n; i++)
    UNROLL for (int s = 0; s < m; s++) {
      v16 x = sums[i * m + s];
      *(v16 *)(a->hidden + (j + i) * c->hidden + (first + s) * LANES) = c->relu ? relu16(x) : x;
    }
}

INLINE void hidden_of(const work *w, int j, int n) {
#define PART(m) hidden_part(w, j, n, first, m)
  IN_CHUNKS(first, w->c->hidden / LANES, AT_ONCE, PART);
#undef PART
}

/* Hidden layers of all that await a score: T of a user is read once for several of his pairs. */
static void hidden_awaited(const work *w) {
  const awaited *a = w->awaited;
  for (int j = 0, n; j < a->count; j += n) {
    for (n = 1; n < AT_ONCE && j + n < a->count && a->users[j + n] == a->users[j];) n++;
    switch (n) {
      case 1: hidden_of(w, j, 1); break;
      case 2: hidden_of(w, j, 2); break;
      case 3: hidden_of(w, j, 3); break;
      default: hidden_of(w, j, AT_ONCE);
    }
  }
}

/* Scores of all that await one, from hidden layers in the written order: these are turned, so that the lanes are pairs. */
INLINE v16 add_hidden(const work *w, v16 scores, int own_W) {
  _Static_assert(AWAITED == LANES, "one lane a pair");
  const awaited *a = w->awaited;
  for (int64_t first = 0; first < w->c->hidden; first += LANES) {
    v16 hidden[LANES], W[LANES];
    UNROLL for (int j = 0; j < LANES; j++) {
      hidden[j] = load(a->hidden + j * w->c->hidden + first);
      if (own_W) W[j] = load(a->rows[j] + w->side_by_side.W + first);
    }
    transpose(hidden);
    if (own_W) transpose(W);
    UNROLL for (int f = 0; f < LANES; f++) scores = fma16(own_W ? W[f] : splat(w->c->w[first + f]), hidden[f], scores);
  }
  return scores;
}

/* The same of a linear head; the lanes are users, of whom each pair has one. */
INLINE v16 add_linear(const work *w, v16 scores) {
  const awaited *a = w->awaited;
  const float *T = w->T + (a->users[0] & -LANES) * w->rows;
  v16 sums[AWAITED];
  UNROLL for (int j = 0; j < AWAITED; j++) sums[j] = splat(scores[j]);
  for (int64_t r = 0; r < w->rows; r++)
    UNROLL for (int j = 0; j < AWAITED; j++) sums[j] = fma16(splat(a->rows[j][r * LANES]), load(T + r * LANES), sums[j]);
  for (int j = 0; j < AWAITED; j++) scores[j] = sums[j][a->users[j] % LANES];
  return scores;
}

/* Score the notes that await it: both bounds become the score. */
static __attribute__((noinline)) void settle_awaited(const work *w) {
  awaited *a = w->awaited;
  v16 scores;
  if (!a->count) return; /* there may be no candidate at all */
  for (int j = a->count; j < AWAITED; j++) a->rows[j] = a->rows[0], a->users[j] = a->users[0], a->positions[j] = 0;
  for (int j = 0; j < AWAITED; j++) scores[j] = w->c->b[a->positions[j]];
  if (w->linear) {
    scores = add_linear(w, scores);
  } else {
    hidden_awaited(w);
    if (w->c->W)
      scores = add_hidden(w, scores, 1);
    else
      scores = add_hidden(w, scores, 0);
  }
  for (int j = 0; j < a->count; j++) *a->least[j] = *a->most[j] = scores[j] + 0.0f;
  a->count = 0;
}

/* See to it that a pair is scored, by `settle_awaited` at the latest. */
INLINE void await_score(const work *w, int64_t at, uint32_t position, float *least, float *most) {
  awaited *a = w->awaited;
  if (w->linear && a->count && a->users[0] / LANES != at / LANES) settle_awaited(w); /* one panel at a time */
  int n = a->count++;
  a->rows[n] = row_of(w, position, n), a->users[n] = at, a->positions[n] = position;
  a->least[n] = least, a->most[n] = most;
  if (a->count == AWAITED) settle_awaited(w);
}

#endif
