/* The scoring kernel on a GPU: arithmetic `lime-1` of kernel.c, a pair's operations in the same order, so that its score
   has the bits of every CPU build.

   Compiled at run time for one head and one GPU (lime_model/scoring/cuda.py). Given as macros: HEADS, LINKS, WIDTH, HIDDEN,
   RELU, OWN_G, OWN_W, LINEAR; CHUNK hidden units are in registers at once; a block has THREADS threads with EACH candidates a
   thread and meets USERS users one after another. */
typedef long long i64;

enum { ROWS = HEADS * LINKS, CHUNKS = (HIDDEN + CHUNK - 1) / CHUNK, STEP = ROWS * CHUNK, LANES = 16 };

struct arguments {
  const float *A, *G, *W, *b, *fold, *g, *w;     /* candidates as in kernel.h */
  const float *links;                            /* P [users, L, d] */
  float *T;                                      /* [users, CHUNKS, ROWS, CHUNK], 0 past the last hidden unit */
  const unsigned char *masks;                    /* as in kernel.h */
  const i64 *class_of, *denied_offsets, *denied; /* of these users, as in kernel.h */
  const i64 *thresholds;                         /* [users]: keys that a pair has to beat */
  i64 *found;                                    /* [users, room]: keys that do, in any order */
  int *filled;                                   /* [users]: how many */
  i64 users, first, count, room, mask_bytes;     /* candidates first..first + count, at most `room` of them */
};

/* T_u = P_u . fold, a block for each user. */
extern "C" __global__ void fold_links(const arguments a) {
  const float *P = a.links + (i64)blockIdx.x * LINKS * WIDTH;
  float *T = a.T + (i64)blockIdx.x * CHUNKS * STEP;
  for (int i = threadIdx.x; i < CHUNKS * STEP; i += blockDim.x) {
    int f = i / STEP * CHUNK + i % CHUNK, r = i / CHUNK % ROWS, h = r / LINKS, l = r % LINKS;
    float t = 0;
    if (f < HIDDEN)
      for (int d = 0; d < WIDTH; d++) t = fmaf(P[l * WIDTH + d], a.fold[(h * WIDTH + d) * HIDDEN + f], t);
    T[i] = t;
  }
}

/* Larger for a higher score, then for a smaller position: `_keys` of blocked.py. */
static __device__ i64 key_of(float score, i64 position) {
  int bits = __float_as_int(score + 0.0f); /* a zero is +0 */
  return ((i64)(bits < 0 ? bits ^ 0x7FFFFFFF : bits) << 32) | (0xFFFFFFFFLL - position);
}

static __device__ bool is_denied(const arguments &a, i64 user, i64 position) {
  i64 low = a.denied_offsets[user], end = a.denied_offsets[user + 1], high = end;
  while (low < high) {
    i64 middle = (low + high) / 2;
    if (a.denied[middle] < position)
      low = middle + 1;
    else
      high = middle;
  }
  return low < end && a.denied[low] == position;
}

static __device__ bool may_enter(const arguments &a, i64 user, i64 position, i64 key) {
  if (position >= a.first + a.count || key <= a.thresholds[user]) return false;
  int byte = a.masks[a.class_of[user] * a.mask_bytes + position / 8];
  return (byte >> (position % 8) & 1) && !is_denied(a, user, position);
}

/* Note the pairs of a warp, which has one user; a place for all of them is taken at once. */
static __device__ void note(const arguments &a, i64 user, i64 position, float score) {
  i64 key = key_of(score, position);
  bool enters = may_enter(a, user, position, key);
  unsigned all = __ballot_sync(~0u, enters);
  if (!all) return;
  int lane = threadIdx.x % 32, place = 0;
  if (lane == 0) place = atomicAdd(a.filled + user, __popc(all));
  place = __shfl_sync(~0u, place, 0) + __popc(all & ((1u << lane) - 1));
  if (enters) a.found[user * a.room + place] = key;
}

/* Of a thread's candidates the position, and where it lies in a table of so many rows a group. */
static __device__ i64 position_of(const arguments &a, int j) {
  return a.first + ((i64)blockIdx.x * EACH + j) * THREADS + threadIdx.x;
}

static __device__ const float *column(const float *table, i64 rows, const arguments &a, int j) {
  i64 c = position_of(a, j), last = a.first + a.count - 1;
  c = c < last ? c : last; /* what lies past the last is computed and not noted */
  return table + c / LANES * rows * LANES + c % LANES;
}

#if !LINEAR
/* GPUs before sm_80, and a test without a GPU, copy at once. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define ASYNCHRONOUS 1
#else
#define ASYNCHRONOUS 0
#endif

/* The way of T into shared memory goes on while the step before is computed; `arrive` waits for it. */
static __device__ void fetch(float *to, const float *from) {
  for (int i = threadIdx.x * 4; i < STEP; i += THREADS * 4) {
#if ASYNCHRONOUS
    unsigned there = (unsigned)__cvta_generic_to_shared(to + i);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(there), "l"(from + i));
#else
    *(float4 *)(to + i) = *(const float4 *)(from + i);
#endif
  }
}

static __device__ void arrive(void) {
#if ASYNCHRONOUS
  asm volatile("cp.async.wait_all;");
#endif
  __syncthreads();
}

static __device__ float activated(float x) { return RELU && !(x > 0) ? 0.0f : x; }

/* A thread's candidates, each in its column of the tables. */
struct candidates {
  const float *A[EACH], *G[EACH], *W[EACH], *b[EACH];
};

/* Add a chunk of hidden units to the scores of a thread's candidates. */
static __device__ void add_chunk(const candidates &c, const float *T, int first, float *score) {
  float x[EACH][CHUNK];
#pragma unroll
  for (int f = 0; f < CHUNK; f++)
#pragma unroll
    for (int j = 0; j < EACH; j++) x[j][f] = first + f < HIDDEN ? c.G[j][(first + f) * (OWN_G ? LANES : 1)] : 0.0f;
#pragma unroll UNROLL
  for (int r = 0; r < ROWS; r++) {
    float weight[EACH];
#pragma unroll
    for (int j = 0; j < EACH; j++) weight[j] = c.A[j][r * LANES];
#pragma unroll
    for (int f = 0; f < CHUNK; f += 4) {
      float4 t = *(const float4 *)(T + r * CHUNK + f);
#pragma unroll
      for (int j = 0; j < EACH; j++) {
        x[j][f] = fmaf(weight[j], t.x, x[j][f]);
        x[j][f + 1] = fmaf(weight[j], t.y, x[j][f + 1]);
        x[j][f + 2] = fmaf(weight[j], t.z, x[j][f + 2]);
        x[j][f + 3] = fmaf(weight[j], t.w, x[j][f + 3]);
      }
    }
  }
#pragma unroll
  for (int f = 0; f < CHUNK; f++)
#pragma unroll
    for (int j = 0; j < EACH; j++)
      if (first + f < HIDDEN) score[j] = fmaf(c.W[j][(first + f) * (OWN_W ? LANES : 1)], activated(x[j][f]), score[j]);
}

extern "C" __global__ void __launch_bounds__(THREADS) score_users(const arguments a) {
  __shared__ __align__(16) float T[2][STEP];
  i64 user = (i64)blockIdx.y * USERS, end = user + USERS < a.users ? user + USERS : a.users;
  const float *next = a.T + user * CHUNKS * STEP;
  candidates c;
#pragma unroll
  for (int j = 0; j < EACH; j++) {
    c.A[j] = column(a.A, ROWS, a, j);
    c.G[j] = OWN_G ? column(a.G, HIDDEN, a, j) : a.g;
    c.W[j] = OWN_W ? column(a.W, HIDDEN, a, j) : a.w;
    c.b[j] = column(a.b, 1, a, j);
  }
  fetch(T[0], next);
  for (int at = 0; user < end; user++) {
    float score[EACH];
#pragma unroll
    for (int j = 0; j < EACH; j++) score[j] = *c.b[j];
    for (int first = 0; first < HIDDEN; first += CHUNK, at ^= 1) {
      arrive(); /* this step's T is there, and nobody reads the other's any more */
      next += STEP;
      if (user + 1 < end || first + CHUNK < HIDDEN) fetch(T[at ^ 1], next);
      add_chunk(c, T[at], first, score);
    }
#pragma unroll
    for (int j = 0; j < EACH; j++) note(a, user, position_of(a, j), score[j]);
  }
}
#else
extern "C" __global__ void __launch_bounds__(THREADS) score_users(const arguments a) {
  __shared__ __align__(16) float T[USERS][ROWS];
  i64 start = (i64)blockIdx.y * USERS;
  int users = (int)(a.users - start < USERS ? a.users - start : USERS);
  for (int i = threadIdx.x; i < users * ROWS; i += THREADS) T[0][i] = a.T[start * ROWS + i];
  enum { HELD = ROWS <= 64 }; /* in registers */
  const float *from[EACH];
  float A[EACH][HELD ? ROWS : 1], b[EACH];
#pragma unroll
  for (int j = 0; j < EACH; j++) {
    from[j] = column(a.A, ROWS, a, j);
#pragma unroll
    for (int r = 0; r < (HELD ? ROWS : 0); r++) A[j][r] = from[j][r * LANES];
    b[j] = *column(a.b, 1, a, j);
  }
  __syncthreads();
  for (int u = 0; u < users; u++) {
    float score[EACH];
#pragma unroll
    for (int j = 0; j < EACH; j++) score[j] = b[j];
#pragma unroll HELD ? ROWS : 4
    for (int r = 0; r < ROWS; r++)
#pragma unroll
      for (int j = 0; j < EACH; j++) score[j] = fmaf(HELD ? A[j][HELD ? r : 0] : from[j][r * LANES], T[u][r], score[j]);
#pragma unroll
    for (int j = 0; j < EACH; j++) note(a, start + u, position_of(a, j), score[j]);
  }
}
#endif
