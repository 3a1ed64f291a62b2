/* Notes whose scores lie between bounds: which are possible, and what settles them. */
#ifndef LIME_SETTLE_H
#define LIME_SETTLE_H

#include <assert.h>

#include "estimate.h"
#include "exact.h"

/* See to it that a note of user `at` is scored. */
INLINE void settle(const work *w, int64_t at, int64_t i) {
  list *l = w->lists + at;
  if (l->scores[i] != l->most[i]) await_score(w, at, l->positions[i], l->scores + i, l->most + i);
}

/* How many lanes of n vectors are above x. */
static int64_t count_above(const v16 *of, int64_t n, float x) {
  int64_t more = 0;
  for (int64_t i = 0; i < n; i++) more += __builtin_popcount(above(of[i], splat(x)));
  return more;
}

/* A number that at least k lanes of n vectors exceed, perhaps `before`, and hardly more where that can be; -infinity for
   fewer lanes. */
static float exceeded_by(const v16 *x, int64_t n, int64_t k, float before) {
  if (count_above(x, n, -INFINITY) < k) return -INFINITY;
  int64_t from = ordered_of(count_above(x, n, before) < k ? -INFINITY : before), to = ordered_of(largest(x, n));
  while (to - from > 1) {
    int64_t middle = (from + to) >> 1, more = count_above(x, n, float_of((int32_t)middle));
    if (more < k) {
      to = middle;
      continue;
    }
    from = middle;
    if (more - k <= k / 16) break;
  }
  return float_of((int32_t)from);
}

/* Drop the notes that K others beat whatever their scores are. Returns what the scores of K exceed, -infinity while there
   are fewer. */
static float keep_possible(const work *w, int64_t at) {
  list *l = w->lists + at;
  int64_t n = 0;
  for (int i = 0; i < LANES; i++) l->scores[l->notes + i] = -INFINITY;
  float threshold = exceeded_by((const v16 *)l->scores, whole(l->notes, LANES), w->k, w->thresholds[at]);
  for (int64_t i = 0; i < l->notes; i += LANES) {
    v16 scores = load(l->scores + i), most = load(l->most + i), positions;
    memcpy(&positions, l->positions + i, sizeof positions);
    uint32_t valid = l->notes - i < LANES ? (1u << (l->notes - i)) - 1 : 0xffff;
    uint32_t bits = above(most, splat(threshold)) & valid;
    pack(l->scores + n, scores, bits);
    pack(l->most + n, most, bits);
    pack(l->positions + n, positions, bits);
    n += __builtin_popcount(bits);
  }
  l->notes = n;
  return threshold;
}

/* Score all notes and keep the K best, in order of position. Returns the score of the K-th. */
static float keep_best(const work *w, int64_t at) {
  list *l = w->lists + at;
  for (int64_t i = 0; i < l->notes; i++) settle(w, at, i);
  settle_awaited(w);
  for (int64_t i = 0; i < l->notes; i++) l->best[i] = key_of(l->scores[i], l->positions[i]);
  select_largest(l->best, l->notes, w->k, w->spare);
  int64_t lowest = l->best[0], n = 0;
  for (int64_t i = 1; i < w->k; i++) lowest = l->best[i] < lowest ? l->best[i] : lowest;
  for (int64_t i = 0; i < l->notes; i++) {
    l->scores[n] = l->most[n] = l->scores[i];
    l->positions[n] = l->positions[i];
    n += key_of(l->scores[n], l->positions[n]) >= lowest;
  }
  l->notes = n;
  return score_of(lowest);
}

/* Make room among the notes of user `at` and raise his threshold. Where bounds do not tell enough of them apart, scores
   do. */
static void prune(const work *w, int64_t at) {
  float threshold = keep_possible(w, at);
  if (w->lists[at].notes > w->undecided) threshold = keep_best(w, at);
  if (threshold > w->thresholds[at]) w->thresholds[at] = threshold;
}

static int32_t next_denied(const list *l) { return l->denied < l->denied_end ? (int32_t)(*l->denied / TILE) : -1; }

/* Candidates of a tile that are denied to user `at`; what comes after is his next. */
static uint64_t denied_in(const work *w, int64_t at, int64_t tile) {
  list *l = w->lists + at;
  uint64_t bits = 0;
  for (; next_denied(l) == tile; l->denied++) bits |= 1ULL << *l->denied % TILE;
  w->next[at] = next_denied(l);
  return bits;
}

static void start_denied(const work *w, int64_t first, int64_t users) {
  for (int64_t at = 0; at < users; at++) w->lists[at].denied = w->u->denied + w->u->denied_offsets[first + at];
  for (int64_t at = 0; at < w->block; at++) w->next[at] = at < users ? next_denied(w->lists + at) : -1;
}

/* What estimates of a group's scores may be off by for user `at`. */
INLINE v16 error_of(const work *w, const low_tile *low, int64_t at, int64_t g) {
  v16 T = splat(w->reach.T[at]), dT = splat(w->reach.dT[at]), rest = splat(w->reach.rest[at]);
  return fma16(low->lost[g], T, fma16(low->size[g], dT, rest));
}

/* Whether the scores of a group are where their bounds say; asked by builds with assertions. */
INLINE int hold(const work *w, int64_t at, v16 least, v16 most, uint32_t bits, int64_t position) {
  for (; bits; bits &= bits - 1) {
    int i = __builtin_ctz(bits);
    float score, same;
    await_score(w, at, (uint32_t)(position + i), &score, &same);
    settle_awaited(w);
    if (!(least[i] <= score && score <= most[i])) return 0;
  }
  return 1;
}

/* Scores of one tile lie between bounds: note those that may beat the user's threshold and are eligible. */
INLINE void judge_between(const work *w, const low_tile *low, int64_t at, const v16 *scores, uint64_t eligible,
                          int64_t tile) {
  v16 threshold = splat(w->thresholds[at]), most[GROUPS], least[GROUPS];
  uint64_t bits = 0;
  UNROLL for (int g = 0; g < GROUPS; g++) {
    v16 error = error_of(w, low, at, g);
    most[g] = scores[g] + error;
    least[g] = scores[g] - error;
    bits |= (uint64_t)above(most[g], threshold) << (LANES * g);
    assert(hold(w, at, least[g], most[g], (uint32_t)(eligible >> (LANES * g)) & 0xffff, tile * TILE + LANES * g));
  }
  if (__builtin_expect(bits == 0, 1)) return;
  bits &= eligible;
  list *l = w->lists + at;
  UNROLL for (int g = 0; g < GROUPS; g++) {
    uint32_t lanes = (uint32_t)(bits >> (LANES * g)) & 0xffff;
    pack(l->most + l->notes, most[g], lanes);
    note(l, least[g], lanes, (uint32_t)(tile * TILE + LANES * g));
  }
  if (l->notes + 2 * SLACK > w->room) prune(w, at);
}

#endif
