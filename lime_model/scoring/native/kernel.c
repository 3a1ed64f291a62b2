/* score[u, c] = sum_f w[c, f] * act((A[c] . T_u)_f + G[c, f]) + b[c], with T_u folded from the user's links, and the K
   best of every user, without a matrix of users by candidates (arXiv 2510.18239).

   Arithmetic `lime-1`, a pair's only operations, in this order, each a fused multiply-add in float32:
     T[h, l, f]   from 0, over d ascending:   t = fma(P[l, d], fold[h, d, f], t)
     hidden f     from G[c, f], over r = (h, l) ascending:   x = fma(A[c, r], T[r, f], x)
     score        from b[c], over f ascending:   s = fma(w[c, f], act(x_f), s);   then s + 0, so that a zero is +0
   A linear head (F = 1, identity, w = 1, G = 0) is one chain: s from b[c], over r:   s = fma(A[c, r], T[r], s).

   Every pair is scored so (`scan.h`), or where there are tile registers those that an estimate leaves (`screen.h`,
   `screen_linear.h`). */
#include <stdatomic.h>
#include <stdlib.h>

#include "fold.h"
#include "scan.h"
#include "screen.h"
#include "state.h"

static int is_linear(const lime_candidates *c) {
  return c->hidden == 1 && !c->relu && !c->G && !c->W && c->g[0] == 0.0f && c->w[0] == 1.0f;
}

static void scan(const work *w, int64_t first, int64_t users) {
  if (w->screened)
    scan_screened(w, first, users);
  else if (w->linear)
    scan_linear(w, first, users);
  else
    BY_HEAD(w->c, scan_hidden, w, first, users);
}

static void start_user(work *w, int64_t at, int64_t user) {
  const lime_users *u = w->u;
  list *l = w->lists + at;
  l->notes = l->kept = 0;
  l->denied = u->denied + u->denied_offsets[user];
  l->denied_end = u->denied + u->denied_offsets[user + 1];
  w->thresholds[at] = -INFINITY;
}

static void write_list(work *w, int64_t at, int64_t user, int64_t k, lime_lists *out) {
  list *l = w->lists + at;
  merge(l, w->k, w->spare);
  sort_largest(l->best, l->kept, w->spare);
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

/* Users per block: as many as keep their T and their lists in the cache, whole panels. Estimates are so fast that the
   candidates' way into the cache counts, and of a linear head what lowers them: more users share it. */
static int64_t block_of(const work *w) {
  int many = w->screened && w->linear;
  int64_t most = many ? MANY_USERS : MAX_USERS, lists = (many ? 4 : 1) * LIST_BYTES;
  int64_t T = (w->screened ? w->pairs : w->rows) * w->c->hidden * (int64_t)sizeof(float);
  int64_t by_T = w->linear ? most : (w->screened ? 2 : 1) * T_BYTES / T;
  int64_t by_list = lists / (w->room * 16);
  int64_t users = by_T < by_list ? by_T : by_list, panel = w->screened ? LANES : USERS_AT_ONCE;
  users = users < most ? users : most;
  users = users < w->u->count ? users : w->u->count;
  return users < 1 ? panel : whole(users, panel) * panel;
}

/* All candidates side by side, where that takes little memory and each group serves several pairs, for it has to be turned
   once; of a linear head none. */
static candidate_rows rows_for(const work *w) {
  const lime_candidates *c = w->c;
  int64_t G = whole(w->rows, LANES) * LANES, W = G + (c->G ? c->hidden : 0), size = W + (c->W ? c->hidden : 0);
  int64_t count = w->tiles * TILE;
  int all = !w->linear && count <= 8 * w->u->count * w->k && count * size * (int64_t)sizeof(float) <= ROW_BYTES;
  return (candidate_rows){.all = all, .count = all ? count : AWAITED, .size = size, .G = G, .W = W};
}

/* Tiles to be kept in bfloat16: all where they are few and needed again; of a linear head one, it gains nothing. */
static int64_t kept_low(const work *w) {
  int again = !w->linear && w->u->count > w->block;
  return again && w->tiles * TILE * w->pairs * (int64_t)sizeof(float) <= LOW_BYTES ? w->tiles : 1;
}

/* The memory of the call before, where it is enough: what goes back to the system costs page faults in the next call, and
   what goes back to the heap lies in pieces after some. One block a process; calls at the same time have blocks of their
   own. It starts with its size. */
static _Atomic(char *) kept;

static char *borrow(size_t bytes) {
  char *block = atomic_exchange(&kept, NULL);
  size_t size = 0;
  if (block) memcpy(&size, block, sizeof size);
  if (size >= bytes) return block;
  free(block);
  block = aligned_alloc(64, bytes);
  if (block) memcpy(block, &bytes, sizeof bytes);
  return block;
}

static void give_back(char *block) { free(atomic_exchange(&kept, block)); }

typedef struct {
  char *base;
  size_t used, zeroed; /* bytes, and how many of them start as zeros */
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
  if (w->screened) {
    w->T_low = take(a, w->block * c->hidden * w->pairs * f);
    w->low.A = take(a, w->low_tiles * w->pairs * TILE * f);
    w->low.size = take(a, w->low_tiles * TILE * f);
    w->low.lost = take(a, w->low_tiles * TILE * f);
    w->columns = take(a, w->pairs * LANES * f);
    w->lowered = take(a, (int64_t)sizeof(int64_t));
    w->awaited = take(a, (int64_t)sizeof(awaited));
    w->side_by_side.turned = take(a, w->side_by_side.count / LANES);
    w->reach = (reach){take(a, w->block * f), take(a, w->block * f), take(a, w->block * f)};
    w->next = take(a, w->block * (int64_t)sizeof(int32_t));
    if (w->linear) w->leads = take(a, w->lead_rows * w->block * LANES * f), w->own_leads = take(a, w->lead_rows * LANES * f);
  }
  for (int64_t at = 0; at < w->block; at++) {
    float *scores = take(a, w->room * f);
    uint32_t *positions = take(a, w->room * (int64_t)sizeof(uint32_t));
    int64_t *best = take(a, w->room * (int64_t)sizeof(int64_t));
    float *most = w->screened ? take(a, w->room * f) : NULL;
    if (a->base) w->lists[at] = (list){.scores = scores, .most = most, .positions = positions, .best = best};
  }
  a->zeroed = a->used;
  if (w->screened) w->side_by_side.rows = take(a, w->side_by_side.count * w->side_by_side.size * f);
}

/* Not inlined: nothing of it may move across the change of the floating-point state. */
static __attribute__((noinline)) int top_k(const lime_candidates *c, const lime_users *u, int64_t k, lime_lists *out) {
  work w = {.c = c, .u = u, .rows = c->heads * c->links, .linear = is_linear(c)};
  w.tiles = whole(c->count, 4 * LANES) * 4 / GROUPS;
  w.k = k < c->count ? k : c->count;
  int64_t fresh = w.k < 64 ? 64 : w.k < 1024 ? w.k : 1024;
  w.screened = is_screened(&w);
  w.pairs = whole(w.rows, 2 * LANES) * LANES;
  w.undecided = 2 * (w.k + fresh);
  w.lead_rows = whole(w.k, 2); /* four to eight leads for each of K: more would hardly raise the threshold */
  w.room = (w.screened ? w.undecided : w.k) + fresh + 3 * SLACK;
  w.block = block_of(&w);
  w.side_by_side = rows_for(&w);
  w.low_tiles = kept_low(&w);
  arena counted = {.used = 64}, memory = counted; /* a block's size is before everything else */
  lay_out(&w, &counted);
  memory.base = borrow(counted.used);
  if (!memory.base) return LIME_NO_MEMORY;
  memset(memory.base + memory.used, 0, counted.zeroed - memory.used);
  lay_out(&w, &memory);
  turn_fold(c, w.fold);
  int status = run_blocks(&w, k, out);
  give_back(memory.base);
  return status;
}

const char *lime_arithmetic(void) { return "lime-1"; }

int lime_start(void) {
#if defined(__AMX_BF16__)
  return amx_start();
#else
  return 1;
#endif
}

int lime_top_k(const lime_candidates *candidates, const lime_users *users, int64_t k, lime_lists *lists) {
  uint64_t state = float_state();
  set_float_state(DEFAULT_STATE);
  int status = top_k(candidates, users, k, lists);
  set_float_state(state);
  return status;
}
