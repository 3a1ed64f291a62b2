/* Hardly any pair comes near a list, and an estimate of its score, with a bound of its error, says which may: only these
   are scored in the written order. Lists and scores are those of the plain scan, bit for bit. */
#ifndef LIME_SCREEN_H
#define LIME_SCREEN_H

#include "work.h"

#if defined(LIME_SCREEN) || defined(__AMX_BF16__) /* the first is for tests, where there are no tile registers */
#include "settle.h"

/* Every user of the block against a tile while it is in the cache. */
INLINE void estimate_all(const work *w, int64_t first, int64_t users, int relu, int own_G, int own_W) {
  for (int64_t tile = 0; tile < w->tiles; tile++) {
    lower_tile(w, tile);
    for (int64_t at = 0; at < users; at++) {
      uint64_t eligible = eligible_in(w, first + at, tile);
      if (!eligible) continue;
      v16 scores[GROUPS];
      estimate(w, at, tile, scores, relu, own_G, own_W);
      judge_between(w, at, scores, eligible, tile);
    }
  }
}

/* Score what is left of the block's notes: tiles pass once more, for all users together. */
static void settle_all(const work *w, int64_t users) {
  for (int64_t at = 0; at < users; at++) {
    prune(w, at);
    w->lists[at].kept = 0; /* from here on how many of the notes are settled */
  }
  for (int64_t tile = 0; tile < w->tiles; tile++)
    for (int64_t at = 0; at < users; at++)
      for (list *l = w->lists + at; l->kept < l->notes && l->positions[l->kept] / TILE == tile; l->kept++)
        settle(w, at, l->kept);
  settle_awaited(w);
  for (int64_t at = 0; at < users; at++) w->lists[at].kept = 0; /* notes like those of a plain scan, to be merged */
}

static void scan_screened(const work *w, int64_t first, int64_t users) {
  const lime_candidates *c = w->c;
  for (int64_t at = 0; at < users; at++) lower_user(w, at);
#if defined(__AMX_BF16__)
  amx_open();
#endif
  BY_HEAD(c, estimate_all, w, first, users);
#if defined(__AMX_BF16__)
  amx_close();
#endif
  settle_all(w, users);
}

/* Where estimates save more than the scores of what they leave cost (measured), and no square of a norm overflows. */
static int is_screened(const work *w) {
  const lime_candidates *c = w->c;
  int worth = !w->linear && w->rows >= 16 && c->hidden % LANES == 0 && c->hidden <= MAX_SCREENED;
  worth &= 640 * w->k <= c->count * w->rows;
  for (int64_t r = 0; r < w->rows; r++) worth &= c->A_max[r] < 1e15f;
  for (int64_t f = 0; f < c->hidden; f++) worth &= c->W_max[f] < 1e15f;
  return worth;
}

#else

static void scan_screened(const work *w, int64_t first, int64_t users) { (void)w, (void)first, (void)users; }

static int is_screened(const work *w) { return (void)w, 0; }

#endif
#endif
