/* A block of users against every tile of candidates. */
#ifndef LIME_SCAN_H
#define LIME_SCAN_H

#include "work.h"

/* Scores of one tile against the user's threshold: one bit a candidate that beats it and is eligible. */
INLINE void judge(const work *w, int64_t at, const v16 *scores, uint64_t eligible, int64_t tile) {
  v16 threshold = splat(w->thresholds[at]);
  uint64_t bits = 0;
  UNROLL for (int g = 0; g < GROUPS; g++) bits |= (uint64_t)above(scores[g], threshold) << (LANES * g);
  if (__builtin_expect(bits == 0, 1)) return;
  bits &= eligible;
  list *l = w->lists + at;
  UNROLL for (int g = 0; g < GROUPS; g++)
    note(l, scores[g], (uint32_t)(bits >> (LANES * g)) & 0xffff, (uint32_t)(tile * TILE + LANES * g));
  if (l->notes + w->k + 2 * SLACK > w->room) w->thresholds[at] = merge(l, w->k, w->spare);
}

/* The eligible candidates of one tile for a user of the block. */
INLINE uint64_t eligible_in(const work *w, int64_t user, int64_t tile) {
  uint64_t bits = 0;
  const uint8_t *mask = w->u->masks + (w->u->class_of[user] * w->tiles + tile) * (TILE / 8);
  memcpy(&bits, mask, TILE / 8);
  return bits;
}

/* CALL(..., relu, own_G, own_W) with constants where the head is a usual one: conditions that are the same for all pairs. */
#define BY_HEAD(c, CALL, ...)                                              \
  do {                                                                     \
    if ((c)->relu && (c)->G && !(c)->W) /* mlp */                          \
      CALL(__VA_ARGS__, 1, 1, 0);                                          \
    else if (!(c)->relu && !(c)->G && (c)->W) /* dot */                    \
      CALL(__VA_ARGS__, 0, 0, 1);                                          \
    else                                                                   \
      CALL(__VA_ARGS__, (c)->relu != 0, (c)->G != NULL, (c)->W != NULL);   \
  } while (0)

/* A linear head: a panel of users against a tile, every tile of a cached block before the next panel. */
static void scan_linear(const work *w, int64_t first, int64_t users) {
  const lime_candidates *c = w->c;
  for (int64_t start = 0; start < w->tiles; start += BLOCK)
    for (int64_t at = 0; at < users; at += USERS_AT_ONCE)
      for (int64_t tile = start; tile < w->tiles && tile < start + BLOCK; tile++) {
        v16 sums[USERS_AT_ONCE * GROUPS];
        UNROLL for (int j = 0; j < USERS_AT_ONCE; j++)
          UNROLL for (int g = 0; g < GROUPS; g++) sums[j * GROUPS + g] = load(c->b + tile * TILE + g * LANES);
        multiply(sums, c->A + tile * w->rows * TILE, w->T + at * w->rows, USERS_AT_ONCE, GROUPS, w->rows);
        UNROLL for (int j = 0; j < USERS_AT_ONCE; j++) {
          UNROLL for (int g = 0; g < GROUPS; g++) sums[j * GROUPS + g] += splat(0);
          int64_t user = first + (at + j < users ? at + j : 0); /* a dummy's threshold lets nothing pass */
          judge(w, at + j, sums + j * GROUPS, eligible_in(w, user, tile), tile);
        }
      }
}

/* A head with a hidden layer: every user of the block against a tile while it is in the cache. */
INLINE void scan_hidden(const work *w, int64_t first, int64_t users, int relu, int own_G, int own_W) {
  const lime_candidates *c = w->c;
  int64_t F = c->hidden;
  for (int64_t tile = 0; tile < w->tiles; tile++)
    for (int64_t at = 0; at < users; at++) {
      uint64_t eligible = eligible_in(w, first + at, tile);
      if (!eligible) continue;
      const float *x = c->A + tile * w->rows * TILE, *T = w->T + at * F * w->rows;
      v16 scores[GROUPS];
      UNROLL for (int g = 0; g < GROUPS; g++) scores[g] = load(c->b + tile * TILE + g * LANES);
#define AT(table, own, constant, g, i) ((own) ? load((table) + ((tile * GROUPS + (g)) * F + f + (i)) * LANES) : splat((constant)[f + (i)]))
#define HIDDEN(n)                                                                                                  \
  {                                                                                                                \
    v16 sums[(n) * GROUPS];                                                                                        \
    UNROLL for (int i = 0; i < (n); i++)                                                                           \
      UNROLL for (int g = 0; g < GROUPS; g++) sums[i * GROUPS + g] = AT(c->G, own_G, c->g, g, i);                  \
    multiply(sums, x, T + f * w->rows, n, GROUPS, w->rows);                                                        \
    UNROLL for (int i = 0; i < (n); i++)                                                                           \
      UNROLL for (int g = 0; g < GROUPS; g++) {                                                                    \
        v16 hidden = relu ? relu16(sums[i * GROUPS + g]) : sums[i * GROUPS + g];                                   \
        scores[g] = fma16(AT(c->W, own_W, c->w, g, i), hidden, scores[g]);                                         \
      }                                                                                                            \
  }
      IN_CHUNKS(f, F, HIDDEN_AT_ONCE, HIDDEN);
#undef HIDDEN
#undef AT
      UNROLL for (int g = 0; g < GROUPS; g++) scores[g] += splat(0);
      judge(w, at, scores, eligible, tile);
    }
}

#endif
