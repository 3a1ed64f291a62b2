/* The kernel against its arithmetic written down plainly: one pair at a time, scalar fmaf, a full sort. Bit for bit, over
   random sizes, heads, filters and adversarial numbers. Compiled for every processor, and under sanitizers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lime_model/scoring/native/kernel.h"
#include "../../../lime_model/scoring/native/state.h"

static uint64_t seed;

static uint32_t draw(uint32_t below) {
  seed = seed * 6364136223846793005ull + 1442695040888963407ull;
  return (uint32_t)((seed >> 33) % below);
}

/* How numbers are drawn: plain, small integers (ties), all equal, denormal, mixed sizes, zeros of both signs, all positive
   and as far from the next bfloat16 as can be, so that what it loses adds up, bfloat16 of mixed sizes, of which only sums round. */
enum { WILD = 8 };

static float number(int wild) {
  float x = (float)draw(2000001) / 1e6f - 1.0f;
  switch (wild) {
    case 1: return (float)((int)draw(3) - 1);
    case 2: return 0.5f;
    case 3: return x * 1e-38f;
    case 4: return ldexpf(x, (int)draw(40) - 20);
    case 5: return draw(2) ? 0.0f : -0.0f;
    case 6: return 1.0f + (float)draw(2) * 0x1p-7f + 0x1.f8p-9f;
    case 7: return ldexpf(draw(2) ? 1.0f : -1.0078125f, (int)draw(20) - 10);
    default: return x;
  }
}

static float *numbers(int64_t n, int wild) {
  float *x = aligned_alloc(64, (size_t)((n * 4 + 63) / 64 + 1) * 64);
  for (int64_t i = 0; i < n; i++) x[i] = number(wild);
  return x;
}

/* [count, n] -> [groups, n, 16], and the largest absolute value of each column */
static float *grouped(const float *x, int64_t count, int64_t n, int64_t groups, float *largest) {
  float *out = aligned_alloc(64, (size_t)(groups * n * 64));
  for (int64_t i = 0; i < groups * n * 16; i++) out[i] = 0;
  for (int64_t j = 0; j < n; j++) largest[j] = 0;
  for (int64_t c = 0; c < count; c++)
    for (int64_t j = 0; j < n; j++) {
      out[((c / 16) * n + j) * 16 + c % 16] = x[c * n + j];
      largest[j] = fmaxf(largest[j], fabsf(x[c * n + j]));
    }
  return out;
}

typedef struct {
  lime_candidates c;
  const float *A, *G, *W, *b; /* plain, one row a candidate */
} problem;

static float plain_score(const problem *p, const float *P, int64_t candidate) {
  const lime_candidates *c = &p->c;
  int linear = c->hidden == 1 && !c->relu && !p->G && !p->W && c->g[0] == 0 && c->w[0] == 1;
  float score = p->b[candidate];
  for (int64_t f = 0; f < c->hidden; f++) {
    float hidden = p->G ? p->G[candidate * c->hidden + f] : c->g[f];
    if (linear) hidden = score;
    for (int64_t h = 0; h < c->heads; h++)
      for (int64_t l = 0; l < c->links; l++) {
        float t = 0;
        for (int64_t i = 0; i < c->width; i++)
          t = fmaf(P[l * c->width + i], c->fold[(h * c->width + i) * c->hidden + f], t);
        hidden = fmaf(p->A[(candidate * c->heads + h) * c->links + l], t, hidden);
      }
    if (linear) return hidden + 0.0f;
    if (c->relu && !(hidden > 0)) hidden = 0;
    score = fmaf(p->W ? p->W[candidate * c->hidden + f] : c->w[f], hidden, score);
  }
  return score + 0.0f;
}

typedef struct {
  float score;
  int64_t position;
} pair;

static int by_rank(const void *a, const void *b) {
  const pair *x = a, *y = b;
  if (x->score != y->score) return x->score < y->score ? 1 : -1;
  return x->position < y->position ? -1 : 1;
}

static int64_t pairs;

static void fail(const char *what, int64_t user, int64_t rank) {
  printf("case of seed %llu: %s differs, user %lld, rank %lld\n", (unsigned long long)seed, what, (long long)user, (long long)rank);
  exit(1);
}

static void check_case(uint64_t number_of_case) {
  seed = number_of_case * 0x9e3779b97f4a7c15ull;
  int head = (int)draw(5), relu = head != 0 && draw(3) != 0, wild = (int)draw(WILD);
  int64_t C = 1 + draw(draw(2) ? 20 : 700), B = 1 + draw(draw(2) ? 3 : 140), k = 1 + draw(draw(2) ? 12 : 600);
  int64_t H = 1 + draw(3), L = 1 + draw(9), d = 1 + draw(20), F = head == 0 ? 1 : 1 + draw(40);
  if (draw(2)) { /* what a build that screens does not score pair by pair */
    H = 1 + draw(3), L = 16 / H + 1 + draw(20), d = 1 + draw(draw(2) ? 2 : 20), F = head == 0 ? 1 : 16 * (1 + draw(5));
    C = 200 + draw(head == 0 ? 1800 : 700), k = 1 + draw((uint32_t)(C / (head == 0 ? 50 : 40)));
    if (head == 0) B = 30 + draw(40);
  }
  if (head != 0 && draw(4) == 0) { /* long lists are estimated for many users only */
    H = 1 + draw(2), L = 16 / H + draw(9), d = 1 + draw(2), F = 16 * (1 + draw(3));
    C = 64 + draw(150), k = 1 + draw((uint32_t)(C / 3)), B = 32 + draw(16);
  } else if (C * B * H * L * F > 4000000) B = head == 0 ? 30 + B / 10 : 1 + B / 20;
  int64_t groups = (C + 63) / 64 * 4, R = H * L, classes = 1 + draw(3);
  float *A_max = numbers(R, 0), *G_max = numbers(F, 0), *W_max = numbers(F, 0), *b_max = numbers(1, 0);
  float *A = numbers(C * R, wild), *G = head == 1 || head == 3 ? numbers(C * F, wild) : NULL;
  float *W = head == 2 || head == 3 ? numbers(C * F, wild) : NULL, *b = numbers(C, wild), *fold = numbers(H * d * F, wild == 3 ? 0 : wild >= 6 ? 2 : wild);
  float *g = numbers(F, head == 0 ? 5 : wild), *w = numbers(F, wild);
  if (head == 0) g[0] = 0, w[0] = 1;
  float *P = numbers(B * L * d, wild);
  if (draw(10) == 0) { /* some users' norms are no float32: none of their estimates says anything */
    for (int64_t c = 0; c < C; c++)
      for (int64_t h = 0; h < H; h++) A[c * R + h * L] = 0;
    for (int64_t u = 0; u < B; u += 2) P[u * L * d] = 1e30f;
  }
  problem p = {{C, H, L, d, F, relu, grouped(A, C, R, groups, A_max), NULL, NULL, grouped(b, C, 1, groups, b_max),
                fold, g, w, A_max, G_max, W_max, 0}, A, G, W, b};
  p.c.b_max = b_max[0];
  for (int64_t f = 0; f < F; f++) G_max[f] = fabsf(g[f]), W_max[f] = fabsf(w[f]);
  if (G) p.c.G = grouped(G, C, F, groups, G_max);
  if (W) p.c.W = grouped(W, C, F, groups, W_max);

  uint8_t *masks = calloc((size_t)(classes * groups * 2), 1);
  int keep = (int)draw(4); /* of three: none, some, all eligible */
  for (int64_t i = 0; i < classes; i++)
    for (int64_t c = 0; c < C; c++)
      if ((int)draw(3) < keep) masks[i * groups * 2 + c / 8] |= (uint8_t)(1 << c % 8);
  int64_t *class_of = malloc((size_t)B * 8), *offsets = malloc((size_t)(B + 1) * 8), *denied = malloc((size_t)(B * C + 1) * 8);
  offsets[0] = 0;
  int rare = 1 + (int)draw(12);
  for (int64_t u = 0; u < B; u++) {
    class_of[u] = draw((uint32_t)classes);
    offsets[u + 1] = offsets[u];
    for (int64_t c = 0; c < C; c++)
      if (!draw((uint32_t)rare)) denied[offsets[u + 1]++] = c;
  }
  lime_users users = {B, P, masks, class_of, offsets, denied};
  lime_lists lists = {malloc((size_t)(B * k) * 8), malloc((size_t)(B * k) * 4), malloc((size_t)B * 8), -1};

  uint64_t before = float_state();
#if defined(__x86_64__)
  set_float_state(before | 0x8040 | 0x6000); /* flush denormals, round towards zero: the kernel must not care */
#endif
  uint64_t odd = float_state();
  int status = lime_top_k(&p.c, &users, k, &lists);
  if (float_state() != odd) fail("floating-point state", -1, -1);
  set_float_state(before);
  if (status != LIME_OK) fail("status", lists.bad_user, -1);

  pair *all = malloc((size_t)C * sizeof *all);
  for (int64_t u = 0; u < B; u++) {
    int64_t n = 0, next = offsets[u];
    for (int64_t c = 0; c < C; c++) {
      int is_denied = next < offsets[u + 1] && denied[next] == c;
      next += is_denied;
      if (is_denied || !(masks[class_of[u] * groups * 2 + c / 8] >> (c % 8) & 1)) continue;
      all[n++] = (pair){plain_score(&p, P + u * L * d, c), c};
      pairs++;
    }
    qsort(all, (size_t)n, sizeof *all, by_rank);
    if (lists.count[u] != (n < k ? n : k)) fail("count", u, lists.count[u]);
    for (int64_t i = 0; i < k; i++) {
      int64_t position = i < n ? all[i].position : -1;
      float score = i < n ? all[i].score : 0.0f;
      if (lists.positions[u * k + i] != position) fail("position", u, i);
      if (memcmp(&lists.scores[u * k + i], &score, 4)) fail("score", u, i);
    }
  }

  const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
  int64_t victim = draw((uint32_t)B);
  if (wild == 0) { /* numbers of ordinary size: a bad one must be refused, and its user named */
    P[victim * L * d] = bad[draw(4)];
    int refused = lime_top_k(&p.c, &users, k, &lists);
    if (refused != LIME_BAD_LINKS && isfinite(P[victim * L * d]) == 0) fail("refusal", victim, refused);
    if (refused == LIME_BAD_LINKS && lists.bad_user != victim) fail("named user", victim, lists.bad_user);
  }
  void *made[] = {A_max, G_max, W_max, b_max, A, G, W, b, fold, g, w, P, (void *)p.c.A, (void *)p.c.G, (void *)p.c.W, (void *)p.c.b,
                  masks, class_of, offsets, denied, lists.positions, lists.scores, lists.count, all};
  for (size_t i = 0; i < sizeof made / sizeof *made; i++) free(made[i]);
}

/* The best of 64 candidates, which only an estimate with a bound far below the weights' size tells from the second:
   all its terms are normal numbers, and products of w and T are not. */
static void check_tiny_weights(void) {
  enum { C = 64, L = 16, F = 16 };
  float A_max[L], G_max[F] = {0}, W_max[F], none, score;
  float *A = numbers(C * L, 5), *b = numbers(C, 5), *fold = numbers(F, 2), *g = numbers(F, 5), *w = numbers(F, 2), *P = numbers(L, 5);
  for (int f = 0; f < F; f++) fold[f] = 1, w[f] = W_max[f] = 0x1p-100f;
  P[0] = 0x1.01p-49f, P[1] = 0x1p-49f, P[2] = 0x1p-58f; /* the first loses 2^-57 */
  A[0] = A[L + 1] = A[L + 2] = 0x1p49f;
  uint8_t masks[C / 8];
  memset(masks, 0xff, sizeof masks);
  int64_t class_of = 0, offsets[2] = {0, 0}, position, count;
  lime_candidates c = {C, 1, L, 1, F, 1, grouped(A, C, L, C / 16, A_max), NULL, NULL, grouped(b, C, 1, C / 16, &none),
                       fold, g, w, A_max, G_max, W_max, 0};
  lime_users users = {1, P, masks, &class_of, offsets, offsets};
  lime_lists lists = {&position, &score, &count, -1};
  if (lime_top_k(&c, &users, 1, &lists) != LIME_OK || position != 0 || score != 0x1.01p-96f) fail("tiny weights", 0, position);
  void *made[] = {A, b, fold, g, w, P, (void *)c.A, (void *)c.b};
  for (size_t i = 0; i < sizeof made / sizeof *made; i++) free(made[i]);
}

static void check_find(void) {
  const char *ids = "aabbc\xc3\xa9";            /* "", a, ab, b, c, é */
  int64_t offsets[] = {0, 0, 1, 3, 4, 5, 7};
  const char *asked = "a\xc3\xa9" "abb";         /* a, é, ab, b, "" */
  int64_t asked_offsets[] = {0, 1, 3, 5, 6, 6}, found[5], expected[] = {1, 5, 2, 3, 0};
  lime_find((const uint8_t *)ids, offsets, 6, (const uint8_t *)asked, asked_offsets, 5, found);
  for (int i = 0; i < 5; i++)
    if (found[i] != expected[i]) fail("find", i, found[i]);
  const char *strange = "abcd";
  int64_t strange_offsets[] = {0, 4};
  lime_find((const uint8_t *)ids, offsets, 6, (const uint8_t *)strange, strange_offsets, 1, found);
  if (found[0] != -4) fail("find of a stranger", 0, found[0]);
  lime_find((const uint8_t *)ids, offsets, 0, (const uint8_t *)strange, strange_offsets, 1, found);
  if (found[0] != -1) fail("find in nothing", 0, found[0]);
}

int main(int argc, char **argv) {
  if (!lime_start()) {
    printf("the operating system does not let this build run\n");
    return 2;
  }
  int cases = argc > 1 ? atoi(argv[1]) : 200;
  for (int i = 1; i <= cases; i++) check_case((uint64_t)i);
  check_tiny_weights();
  check_find();
  printf("%d cases, %lld pairs: same bits\n", cases, (long long)pairs);
  return 0;
}
