/* A linear head's estimates cost less than noting what beats a low threshold, so tiles pass once before, for thresholds
   alone. Notes then are few. */
#ifndef LIME_SCREEN_LINEAR_H
#define LIME_SCREEN_LINEAR_H

#include "scan.h"
#include "settle.h"

typedef struct {
  float scores[GROUPS * LANES * LANES], error[LANES];
  const low_tile *low;
} __attribute__((aligned(64))) panel;

INLINE v16 score_in(const panel *p, int g, int j) { return load(p->scores + (g * LANES + j) * LANES); }

/* Estimates of a tile's scores for 16 users from `at`, and what they are off by where both norms of a candidate are the
   largest of the tile. */
INLINE void estimate_panel(const work *w, const low_tile *low, int64_t at, int64_t tile, float size, float lost, panel *p) {
  p->low = low;
  multiply_kept(w, low->A, w->T_low + at * w->pairs, w->c->b + tile * TILE, p->scores);
  v16 error = fma16(splat(size), load(w->reach.dT + at), load(w->reach.rest + at));
  *(v16 *)p->error = fma16(splat(lost), load(w->reach.T + at), error);
}

typedef void use(const work *w, int64_t first, int64_t at, int64_t tile, const panel *p);

/* Every panel of users against every tile. The next panel is estimated before one is looked at: tile registers reach
   memory late. */
INLINE void pass(const work *w, int64_t first, int64_t users, use *look) {
  panel p[2];
  for (int64_t tile = 0; tile < w->tiles; tile++) {
    low_tile low = lower_tile(w, tile);
    keep_tile(w, low.A);
    float size = largest(low.size, GROUPS), lost = largest(low.lost, GROUPS);
    estimate_panel(w, &low, 0, tile, size, lost, p);
    for (int64_t at = 0; at < users; at += LANES) {
      if (at + LANES < users) estimate_panel(w, &low, at + LANES, tile, size, lost, p + (at / LANES + 1) % 2);
      look(w, first, at, tile, p + at / LANES % 2);
    }
  }
}

/* Keep what the best of each group has at least: of the candidates of one lane, of tiles that follow each other. */
INLINE void lead(const work *w, int64_t first, int64_t at, int64_t tile, const panel *p) {
  const uint64_t everybody = ~0ULL >> (64 - TILE);
  v16 *leads = w->leads + tile / whole(w->tiles, w->lead_rows) * w->block + at;
  uint32_t denied = bits_of(*(const m16 *)(w->next + at) == (int32_t)tile);
  UNROLL for (int j = 0; j < LANES; j++) {
    int64_t user = first + at + j;
    uint64_t eligible = eligible_in(w, user < w->u->count ? user : first, tile);
    if (denied >> j & 1) eligible &= ~denied_in(w, at + j, tile);
    v16 best = splat(-INFINITY);
    if (__builtin_expect(eligible == everybody, 1))
      UNROLL for (int g = 0; g < GROUPS; g++) best = larger(best, score_in(p, g, j));
    else
      UNROLL for (int g = 0; g < GROUPS; g++)
        best = larger(best, only(score_in(p, g, j), (uint32_t)(eligible >> (LANES * g)) & 0xffff));
    leads[j] = larger(leads[j], best - splat(p->error[j]));
  }
}

/* Note the candidates of a tile whose bit is set for user `at`, unless their own norms rule them out. */
static void note_linear(const work *w, int64_t at, uint64_t bits, int64_t tile, const panel *p) {
  list *l = w->lists + at;
  const float *size = (const float *)p->low->size, *lost = (const float *)p->low->lost;
  float T = w->reach.T[at], dT = w->reach.dT[at], rest = w->reach.rest[at], threshold = w->thresholds[at];
  int64_t n = l->notes;
  for (; bits; bits &= bits - 1) {
    int64_t i = __builtin_ctzll(bits);
    float score = p->scores[(i / LANES * LANES + at % LANES) * LANES + i % LANES];
    float error = __builtin_fmaf(lost[i], T, __builtin_fmaf(size[i], dT, rest)), most = score + error;
    l->scores[n] = score - error;
    l->most[n] = most;
    l->positions[n] = (uint32_t)(tile * TILE + i);
    n += most > threshold;
  }
  l->notes = n;
  if (n + 2 * SLACK > w->room) prune(w, at);
}

/* Whether the scores of a user are where their bounds say; asked by builds with assertions. */
INLINE int hold_linear(const work *w, int64_t first, int64_t at, int64_t tile, const panel *p) {
  if (first + at >= w->u->count) return 1;
  uint64_t eligible = eligible_in(w, first + at, tile);
  for (int g = 0; g < GROUPS; g++) {
    v16 error = error_of(w, p->low, at, g), score = score_in(p, g, at % LANES);
    uint32_t bits = (uint32_t)(eligible >> (LANES * g)) & 0xffff;
    if (above(error, splat(p->error[at % LANES])) || bits & ~above(score, score - error)) return 0;
    if (!hold(w, at, score - error, score + error, bits, tile * TILE + LANES * g)) return 0;
  }
  return 1;
}

/* The panel's error is at least each candidate's, and what is rounded here is covered: bounds count every rounding twice. */
INLINE void note_panel(const work *w, int64_t first, int64_t at, int64_t tile, const panel *p) {
  float passed[LANES] __attribute__((aligned(64)));
  *(v16 *)passed = load(w->thresholds + at) - load(p->error);
  uint32_t denied = bits_of(*(const m16 *)(w->next + at) == (int32_t)tile);
  UNROLL for (int j = 0; j < LANES; j++) {
    uint64_t allowed = denied >> j & 1 ? ~denied_in(w, at + j, tile) : ~0ULL;
    assert(hold_linear(w, first, at + j, tile, p));
    v16 best = score_in(p, 0, j), threshold = splat(passed[j]);
    UNROLL for (int g = 1; g < GROUPS; g++) best = larger(best, score_in(p, g, j));
    if (__builtin_expect(above(best, threshold) == 0, 1)) continue;
    uint64_t bits = 0;
    UNROLL for (int g = 0; g < GROUPS; g++) bits |= (uint64_t)above(score_in(p, g, j), threshold) << (LANES * g);
    note_linear(w, at + j, bits & allowed & eligible_in(w, first + at + j, tile), tile, p);
  }
}

/* K candidates of a user exceed what the bests of K disjoint groups exceed: a threshold before anything is noted. */
static void raise_thresholds(const work *w, int64_t first, int64_t users) {
  for (int64_t i = 0; i < w->lead_rows * w->block; i++) w->leads[i] = splat(-INFINITY);
  start_denied(w, first, users);
  pass(w, first, users, lead);
  for (int64_t at = 0; at < users; at++) {
    for (int64_t i = 0; i < w->lead_rows; i++) w->own_leads[i] = w->leads[i * w->block + at];
    w->thresholds[at] = exceeded_by(w->own_leads, w->lead_rows, w->k, -INFINITY);
  }
}

static void estimate_linear(const work *w, int64_t first, int64_t users) {
  raise_thresholds(w, first, users);
  start_denied(w, first, users);
  pass(w, first, users, note_panel);
}

#endif
