/* A pair's score, estimated from A and T in bfloat16, with a proven bound of the error.

   With x = x' + dx for A and T, and |v| the Euclidean norm, Cauchy's inequality bounds what a hidden sum is off by:
     |A . T_f - A' . T'_f| <= |dA| |T_f| + |A'| |dT_f|
   The activations do not enlarge it. Summed with weights |w_f| this is what a score is off by, but for the roundings of
   both ways of summing, each at most 2^-24 of all that is added:   error <= |dA| reach.T + |A| reach.dT + reach.rest */
#ifndef LIME_ESTIMATE_H
#define LIME_ESTIMATE_H

#include "bfloat.h"
#include "work.h"
#if defined(__AMX_BF16__)
#include "amx.h"
#endif

static const float TINY_SQUARE = 0x1p-126f; /* more than all that squares lose by being denormal */

INLINE v16 roots(v16 x) {
  for (int i = 0; i < LANES; i++) x[i] = sqrtf(x[i]);
  return x;
}

/* [rows, 16] -> [pairs, 16], and the squared norms of each lane and of what it lost. */
static void lower(const work *w, const float *x, uint32_t *low, v16 *size, v16 *lost) {
  *size = *lost = splat(TINY_SQUARE);
  for (int64_t r = 0; r < w->pairs; r++) {
    v16 near[2];
    for (int64_t i = 0; i < 2; i++) {
      v16 exact = 2 * r + i < w->rows ? load(x + (2 * r + i) * LANES) : splat(0);
      near[i] = nearest_bfloat(exact);
      *size = fma16(exact, exact, *size);
      *lost = fma16(exact - near[i], exact - near[i], *lost);
    }
    *(u16lanes *)(low + r * LANES) = pair_of(near[0], near[1]);
  }
}

/* Sum over f of |w_f| times a norm; where every candidate has its own w, the norm of all, which goes with |w|. */
static double over_hidden(const lime_candidates *c, const float *squares) {
  double sum = 0;
  for (int64_t f = 0; f < c->hidden; f++) {
    double square = squares[f];
    sum += c->W ? square : fabs((double)c->w[f]) * sqrt(square);
  }
  return c->W ? sqrt(sum) : sum;
}

/* 16 columns of T in bfloat16, and the squared norms of each and of what it lost. */
static void lower_columns(const work *w, int64_t first, float *size, float *lost) {
  uint32_t *T_low = w->T_low + first * w->pairs, *turned = w->columns;
  lower(w, w->T + first * w->rows, turned, (v16 *)size, (v16 *)lost);
  for (int64_t r = 0; r < w->pairs; r += LANES) {
    v16 x[LANES];
    for (int64_t i = 0; i < LANES; i++) x[i] = (v16)(*(const u16lanes *)(turned + (r + i) * LANES));
    transpose(x);
    for (int64_t i = 0; i < LANES; i++) *(u16lanes *)(T_low + i * w->pairs + r) = (u16lanes)x[i];
  }
}

/* How far estimates of user `at` reach, of norms of his T: all the way where the bound itself could overflow. */
static void set_reach(const work *w, int64_t at, double T, double lost) {
  const lime_candidates *c = w->c;
  int64_t F = c->hidden, pairs = w->pairs;
  double weights = 0, added = c->b_max;
  for (int64_t f = 0; f < F; f++) weights += c->W_max[f], added += (double)c->W_max[f] * c->G_max[f];
  double roundings = (double)(4 * (2 * pairs + F + 8)) * 0x1p-24; /* of both sums, twice what they can be */
  double flushed = (double)(4 * pairs) * 0x1p-126 * (1 + weights); /* tile registers know no denormal numbers */
  double dT = lost * (1 + 0x1p-8) + roundings * T, rest = roundings * added + flushed; /* |A'| <= (1 + 2^-8) |A| */
  const double slack = 1.0001; /* norms and bounds are sums in float32 themselves */
  const double least = 0x1p-126; /* nor may they vanish in it: |A| can be large */
  int bounded = T < 1e37 && dT < 1e37 && rest < 1e37;
  w->reach.T[at] = bounded ? (float)(T * slack + least) : 0;
  w->reach.dT[at] = bounded ? (float)(dT * slack + least) : 0;
  w->reach.rest[at] = bounded ? (float)(rest * slack) : INFINITY;
  if (!bounded) memset(w->T_low + at * F * pairs, 0, (size_t)(F * pairs) * sizeof *w->T_low);
}

/* T of all users of the block in bfloat16. */
static void lower_users(const work *w, int64_t users) {
  int64_t F = w->c->hidden;
  float size[MAX_SCREENED] __attribute__((aligned(64))), lost[MAX_SCREENED] __attribute__((aligned(64)));
  if (w->linear) {
    for (int64_t at = 0; at < users; at++) {
      if (at % LANES == 0) lower_columns(w, at, size, lost);
      set_reach(w, at, sqrt(size[at % LANES]), sqrt(lost[at % LANES]));
    }
    return;
  }
  for (int64_t at = 0; at < users; at++) {
    for (int64_t f = 0; f < F; f += LANES) lower_columns(w, at * F + f, size + f, lost + f);
    set_reach(w, at, over_hidden(w->c, size), over_hidden(w->c, lost));
  }
}

/* A of a tile in bfloat16, and the norms of each candidate, times that of its own w. */
static low_tile lower_tile(const work *w, int64_t tile) {
  const lime_candidates *c = w->c;
  int64_t at = (w->low_tiles > 1 ? tile : 0) * GROUPS;
  low_tile low = {w->low.A + at * w->pairs * LANES, w->low.size + at, w->low.lost + at};
  if (tile < *w->lowered) return low;
  for (int64_t g = 0; g < GROUPS; g++) {
    int64_t group = tile * GROUPS + g;
    v16 size, lost, weight = splat(c->W ? TINY_SQUARE : 1);
    lower(w, c->A + group * w->rows * LANES, low.A + g * w->pairs * LANES, &size, &lost);
    for (int64_t f = 0; c->W && f < c->hidden; f++) {
      v16 x = load(c->W + (group * c->hidden + f) * LANES);
      weight = fma16(x, x, weight);
    }
    low.size[g] = roots(size) * roots(weight);
    low.lost[g] = roots(lost) * roots(weight);
  }
  if (w->low_tiles > 1) *w->lowered = tile + 1;
  return low;
}

#if defined(__AMX_BF16__)
#define multiply_low amx_multiply
#define keep_tile amx_keep
#define multiply_kept amx_multiply_kept
#else
/* As `amx_multiply`, plainly. */
static void multiply_low(const work *w, const uint32_t *A, const uint32_t *T, const float *from, int64_t group,
                         int64_t column, float *out) {
  for (int64_t g = 0; g < GROUPS; g++)
    for (int64_t f = 0; f < LANES; f++) {
      v16 sum = from ? load(from + g * group + f * column) : splat(0);
      for (int64_t r = 0; r < w->pairs; r++) {
        u16lanes t = (u16lanes){0} + T[f * w->pairs + r];
        sum = add_products(sum, *(const u16lanes *)(A + (g * w->pairs + r) * LANES), t);
      }
      *(v16 *)(out + (g * LANES + f) * LANES) = sum;
    }
}

static void keep_tile(const work *w, const uint32_t *A) { (void)w, (void)A; }

static void multiply_kept(const work *w, const uint32_t *A, const uint32_t *T, const float *from, float *out) {
  multiply_low(w, A, T, from, LANES, 0, out);
}
#endif

/* Estimates of a tile's scores for user `at`, of a head with a hidden layer. */
INLINE void estimate(const work *w, const uint32_t *A, int64_t at, int64_t tile, v16 *scores, int relu, int own_G,
                     int own_W) {
  const lime_candidates *c = w->c;
  int64_t F = c->hidden;
  float sums[GROUPS * LANES * LANES] __attribute__((aligned(64)));
  for (int g = 0; g < GROUPS; g++) scores[g] = load(c->b + tile * TILE + g * LANES);
  for (int64_t first = 0; first < F; first += LANES) {
    const uint32_t *T = w->T_low + (at * F + first) * w->pairs;
    const float *G = own_G ? c->G + (tile * GROUPS * F + first) * LANES : NULL;
    multiply_low(w, A, T, G, F * LANES, LANES, sums);
    for (int f = 0; f < LANES; f++)
      UNROLL for (int g = 0; g < GROUPS; g++) {
        v16 hidden = load(sums + (g * LANES + f) * LANES);
        if (!own_G) hidden += splat(c->g[first + f]);
        if (relu) hidden = relu16(hidden);
        v16 weight = own_W ? load(c->W + ((tile * GROUPS + g) * F + first + f) * LANES) : splat(c->w[first + f]);
        scores[g] = fma16(weight, hidden, scores[g]);
      }
  }
}

#endif
