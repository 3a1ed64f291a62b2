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
    lower_tile(w, tile);
    for (int64_t at = 0; at < users; at++) {
      uint64_t eligible = eligible_in(w, first + at, tile);
      if (w->next[at] == tile) eligible &= ~denied_in(w, at, tile);
      if (!eligible) continue;
      v16 scores[GROUPS];
      estimate(w, at, tile, scores, relu, own_G, own_W);
      judge_between(w, at, scores, eligible, tile);
    }
  }
}

static int32_t next_tile(const list *l) { return l->kept < l->notes ? (int32_t)(l->positions[l->kept] / TILE) : -1; }

/* Score the notes whose least is not below the user's threshold: tiles pass once more, for all users together. */
static void settle_some(const work *w, int64_t users) {
  for (int64_t at = 0; at < users; at++) w->lists[at].kept = 0; /* here, how many of the notes have been passed */
  for (int64_t at = 0; at < w->block; at++) w->next[at] = at < users ? next_tile(w->lists + at) : -1;
  for (int64_t tile = 0; tile < w->tiles; tile++)
    for (int64_t start = 0; start < users; start += LANES) {
      m16 here = *(const m16 *)(w->next + start) == (int32_t)tile;
      for (uint32_t bits = bits_of(here); bits; bits &= bits - 1) {
        int64_t at = start + __builtin_ctz(bits);
        list *l = w->lists + at;
        for (; next_tile(l) == tile; l->kept++)
          if (l->scores[l->kept] >= w->thresholds[at]) settle(w, at, l->kept);
        w->next[at] = next_tile(l);
      }
    }
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
    keep_possible(w, w->lists + at);
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

/* Where estimates save more than the scores of what they leave cost (measured), and no square of a norm overflows. */
static int is_screened(const work *w) {
  const lime_candidates *c = w->c;
  int worth = w->k > 0 && w->rows >= 16;
  if (w->linear)
    worth &= 80 * w->k <= c->count && w->u->count >= 32; /* fewer do not save what lowering every tile costs */
  else
    worth &= c->hidden % LANES == 0 && c->hidden <= MAX_SCREENED && 640 * w->k <= c->count * w->rows;
  for (int64_t r = 0; r < w->rows; r++) worth &= c->A_max[r] < 1e15f;
  for (int64_t f = 0; f < c->hidden; f++) worth &= c->W_max[f] < 1e15f;
  return worth;
}

#else

static void scan_screened(const work *w, int64_t first, int64_t users) { (void)w, (void)first, (void)users; }

static int is_screened(const work *w) { return (void)w, 0; }

#endif
#endif
