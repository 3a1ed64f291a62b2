/* score[u, c] = sum_f w[c, f] * act((A[c] . T_u)_f + G[c, f]) + b[c], with T_u folded from the user's links, and the K
   best of every user, without a matrix of users by candidates (arXiv 2510.18239).

   Arithmetic `lime-1`, a pair's only operations, in this order, each a fused multiply-add in float32:
     T[h, l, f]   from 0, over d ascending:   t = fma(P[l, d], fold[h, d, f], t)
     hidden f     from G[c, f], over r = (h, l) ascending:   x = fma(A[c, r], T[r, f], x)
     score        from b[c], over f ascending:   s = fma(w[c, f], act(x_f), s);   then s + 0, so that a zero is +0
   A linear head (F = 1, identity, w = 1, G = 0) is one chain: s from b[c], over r:   s = fma(A[c, r], T[r], s). */
#include "kernel.h"

#include "list.h"
#include "state.h"

enum { TILE = GROUPS * LANES, BLOCK = 256 / TILE, MAX_USERS = 120, T_BYTES = 1 << 18, LIST_BYTES = 1 << 21, FOLD_AT_ONCE = 8 };

typedef struct {
  const lime_candidates *c;
  const lime_users *u;
  int64_t tiles, rows, k, room; /* rows: H*L; room: entries of one user's notes and of his keys */
  int64_t block;                /* users worked on together */
  int linear;
  float *T;                     /* linear: [users / USERS_AT_ONCE, rows, USERS_AT_ONCE]; else a user's chunks of [rows, n] */
  float *turned;                /* one user's P as chunks of [d, n] over l */
  float *fold;                  /* [H, F / 16, d, 16], filled up with zeros */
  float *thresholds;            /* +infinity for the dummy users that fill up the last panel */
  list *lists;
  int64_t *spare;
} work;

static int64_t whole(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }

static int is_linear(const lime_candidates *c) {
  return c->hidden == 1 && !c->relu && !c->G && !c->W && c->g[0] == 0.0f && c->w[0] == 1.0f;
}

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
  if (w->linear) return w->T + ((at / USERS_AT_ONCE) * w->rows + r) * USERS_AT_ONCE + at % USERS_AT_ONCE;
  int64_t F = w->c->hidden, start = f - f % HIDDEN_AT_ONCE, n = HIDDEN_AT_ONCE;
  if (start + HIDDEN_AT_ONCE > F) { /* in what is left of 4, 2 and 1 */
    for (n = 4; n > 1 && f >= start + (F - start) / n * n; n /= 2) start += (F - start) / n * n;
    start = f - (f - start) % n;
  }
  return w->T + (at * F + start) * w->rows + r * n + (f - start);
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
      for (int64_t f = 0; f < last; f++)                                                         \
        *place_of(w, at, h * c->links + l + j, slab * LANES + f) = ((const float *)&sums[j])[f]; \
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
    double hidden = w->linear ? 0 : c->G_max[f];
    for (int64_t r = 0; r < w->rows; r++) hidden += (double)c->A_max[r] * fabs((double)*place_of(w, at, r, f));
    if (!(hidden < 1e38)) return 0; /* the output weight may be tiny or zero: the hidden sum counts by itself */
    bound += (double)c->W_max[f] * hidden;
  }
  return bound < 1e38;
}

static void start_user(work *w, int64_t at, int64_t user) {
  const lime_users *u = w->u;
  list *l = w->lists + at;
  l->notes = l->kept = 0;
  l->denied = u->denied + u->denied_offsets[user];
  l->denied_end = u->denied + u->denied_offsets[user + 1];
  w->thresholds[at] = -INFINITY;
}

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

/* Two conditions that are the same for all pairs, outside the loops. */
static void scan(const work *w, int64_t first, int64_t users) {
  const lime_candidates *c = w->c;
  if (w->linear)
    scan_linear(w, first, users);
  else if (c->relu && c->G && !c->W) /* mlp */
    scan_hidden(w, first, users, 1, 1, 0);
  else if (!c->relu && !c->G && c->W) /* dot */
    scan_hidden(w, first, users, 0, 0, 1);
  else
    scan_hidden(w, first, users, c->relu != 0, c->G != NULL, c->W != NULL);
}

static void write_list(work *w, int64_t at, int64_t user, int64_t k, lime_lists *out) {
  list *l = w->lists + at;
  merge(l, w->k, w->spare);
  sort_best(l, w->spare);
  out->count[user] = l->kept;
  for (int64_t i = 0; i < k; i++) {
    out->positions[user * k + i] = i < l->kept ? (int64_t)position_of(l->best[i]) : -1;
    out->scores[user * k + i] = i < l->kept ? score_of(l->best[i]) : 0.0f;
  }
}

static int run_blocks(work *w, int64_t k, lime_lists *out) {
  int64_t links = w->c->links * w->c->width;
  for (int64_t first = 0; first < w->u->count; first += w->block) {
    int64_t users = w->u->count - first < w->block ? w->u->count - first : w->block;
    for (int64_t at = users; at < w->block; at++) w->thresholds[at] = INFINITY;
    for (int64_t at = 0; at < users; at++) {
      start_user(w, at, first + at);
      fold_user(w, at, w->u->links + (first + at) * links);
      if (!is_bounded(w, at)) {
        out->bad_user = first + at;
        return LIME_BAD_LINKS;
      }
    }
    scan(w, first, users);
    for (int64_t at = 0; at < users; at++) write_list(w, at, first + at, k, out);
  }
  return LIME_OK;
}

/* Users per block: as many as keep their T and their lists in the cache, whole panels. */
static int64_t block_of(const work *w) {
  int64_t by_T = w->linear ? MAX_USERS : T_BYTES / (w->rows * w->c->hidden * (int64_t)sizeof(float));
  int64_t by_list = LIST_BYTES / (w->room * 16);
  int64_t users = by_T < by_list ? by_T : by_list;
  users = users < MAX_USERS ? users : MAX_USERS;
  users = users < w->u->count ? users : w->u->count;
  return users < 1 ? USERS_AT_ONCE : whole(users, USERS_AT_ONCE) * USERS_AT_ONCE;
}

typedef struct {
  char *base;
  size_t used;
} arena;

/* 64-byte aligned; with no base it only counts */
static void *take(arena *a, int64_t bytes) {
  void *at = a->base ? a->base + a->used : NULL;
  a->used += (size_t)whole(bytes, 64) * 64;
  return at;
}

static void lay_out(work *w, arena *a) {
  const lime_candidates *c = w->c;
  int64_t f = (int64_t)sizeof(float);
  w->T = take(a, w->block * w->rows * c->hidden * f);
  w->turned = take(a, c->links * c->width * f);
  w->fold = take(a, c->heads * whole(c->hidden, LANES) * c->width * LANES * f);
  w->thresholds = take(a, w->block * f);
  w->spare = take(a, w->room * (int64_t)sizeof(int64_t));
  w->lists = take(a, w->block * (int64_t)sizeof(list));
  for (int64_t at = 0; at < w->block; at++) {
    float *scores = take(a, w->room * f);
    uint32_t *positions = take(a, w->room * (int64_t)sizeof(uint32_t));
    int64_t *best = take(a, w->room * (int64_t)sizeof(int64_t));
    if (a->base) w->lists[at] = (list){.scores = scores, .positions = positions, .best = best};
  }
}

/* Not inlined: nothing of it may move across the change of the floating-point state. */
static __attribute__((noinline)) int top_k(const lime_candidates *c, const lime_users *u, int64_t k, lime_lists *out) {
  work w = {.c = c, .u = u, .rows = c->heads * c->links, .linear = is_linear(c)};
  w.tiles = whole(c->count, 4 * LANES) * 4 / GROUPS;
  w.k = k < c->count ? k : c->count;
  w.room = w.k + (w.k < 64 ? 64 : w.k < 1024 ? w.k : 1024) + 3 * SLACK;
  w.block = block_of(&w);
  arena counted = {NULL, 0};
  lay_out(&w, &counted);
  arena memory = {aligned_alloc(64, counted.used), 0};
  if (!memory.base) return LIME_NO_MEMORY;
  memset(memory.base, 0, counted.used);
  lay_out(&w, &memory);
  turn_fold(c, w.fold);
  int status = run_blocks(&w, k, out);
  free(memory.base);
  return status;
}

const char *lime_arithmetic(void) { return "lime-1"; }

int lime_top_k(const lime_candidates *candidates, const lime_users *users, int64_t k, lime_lists *lists) {
  uint64_t state = float_state();
  set_float_state(DEFAULT_STATE);
  int status = top_k(candidates, users, k, lists);
  set_float_state(state);
  return status;
}
