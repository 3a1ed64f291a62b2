/* Hardly any pair comes near a list, and an estimate of its score, with a bound of its error, says which may: only these
   are scored in the written order. Lists and scores are those of the plain scan, bit for bit. */
#ifndef LIME_SCREEN_H
#define LIME_SCREEN_H

#include "scan.h"

#if defined(LIME_SCREEN) || defined(__AMX_BF16__) /* the first is for tests, where there are no tile registers */
#include "screen_linear.h"

/* Every user of the block against a tile while it is in the cache. */
INLINE void estimate_all(const work *w, int64_t first, int64_t users, int relu, int own_G, int own_W) {
  start_denied(w, first, users);
  for (int64_t tile = 0; tile < w->tiles; tile++) {
    low_tile low = lower_tile(w, tile);
    for (int64_t at = 0; at < users; at++) {
      uint64_t eligible = eligible_in(w, first + at, tile);
      if (w->next[at] == tile) eligible &= ~denied_in(w, at, tile);
      if (!eligible) continue;
      v16 scores[GROUPS];
      estimate(w, low.A, at, tile, scores, relu, own_G, own_W);
      judge_between(w, &low, at, scores, eligible, tile);
    }
  }
}

/* Score the notes before a position whose least is not below the user's threshold. */
static void settle_before(const work *w, int64_t at, int64_t end) {
  list *l = w->lists + at;
  int64_t *chosen = w->spare, n = 0;
  float threshold = w->thresholds[at];
  for (; l->kept < l->notes && l->positions[l->kept] < end; l->kept++) { /* no branch depends on a score */
    chosen[n] = l->kept;
    n += (l->scores[l->kept] != l->most[l->kept]) & (l->scores[l->kept] >= threshold);
  }
  for (int64_t i = 0; i < n; i++) {
    if (i + AWAITED < n) prefetch_row(w, l->positions[chosen[i + AWAITED]]);
    settle(w, at, chosen[i]);
  }
}

/* Score the notes whose least is not below the user's threshold. Where candidates are not kept side by side, users share
   their way into the cache. */
static void settle_some(const work *w, int64_t users) {
  int64_t step = w->side_by_side.all ? w->tiles * TILE : SETTLE_STEP;
  for (int64_t at = 0; at < users; at++) w->lists[at].kept = 0; /* here, how many of the notes have been passed */
  for (int64_t end = step; end < w->c->count + step; end += step)
    for (int64_t at = 0; at < users; at++) settle_before(w, at, end);
  settle_awaited(w);
}

/* Score what the block's lists may hold: first the K that have the most for certain, whose scores rule out others. */
static void settle_all(const work *w, int64_t users) {
  int left = 0;
  for (int64_t at = 0; at < users; at++) {
    if (2 * w->lists[at].notes > 3 * w->k)
      prune(w, at);
    else
      w->thresholds[at] = -INFINITY; /* few: to score them takes less time than to drop some */
  }
  settle_some(w, users);
  for (int64_t at = 0; at < users; at++) {
    if (w->thresholds[at] == -INFINITY) continue;
    keep_possible(w, at);
    w->thresholds[at] = -INFINITY;
    left = 1;
  }
  if (left) settle_some(w, users);
  for (int64_t at = 0; at < users; at++) w->lists[at].kept = 0; /* notes like those of a plain scan, to be merged */
}

static void scan_screened(const work *w, int64_t first, int64_t users) {
  const lime_candidates *c = w->c;
  lower_users(w, users);
#if defined(__AMX_BF16__)
  amx_open();
#endif
  if (w->linear)
    estimate_linear(w, first, users);
  else
    BY_HEAD(c, estimate_all, w, first, users);
#if defined(__AMX_BF16__)
  amx_close();
#endif
  settle_all(w, users);
}

/* Where estimates save more than lowering and the scores of what they leave cost (measured), and no square of a norm
   overflows. */
static int is_screened(const work *w) {
  const lime_candidates *c = w->c;
  int many = w->u->count >= 32, worth = w->k > 0 && w->rows >= 16;
  if (w->linear)
    worth &= many && 50 * w->k <= c->count;
  else
    worth &= c->hidden % LANES == 0 && c->hidden <= MAX_SCREENED && (many ? 96 : 640) * w->k <= c->count * w->rows;
  for (int64_t r = 0; r < w->rows; r++) worth &= c->A_max[r] < 1e15f;
  for (int64_t f = 0; f < c->hidden; f++) worth &= c->W_max[f] < 1e15f;
  return worth;
}

#else

static void scan_screened(const work *w, int64_t first, int64_t users) { (void)w, (void)first, (void)users; }

static int is_screened(const work *w) { return (void)w, 0; }

#endif
#endif
