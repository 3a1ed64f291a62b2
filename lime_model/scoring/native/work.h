/* What one call works with: the inputs, and the memory of a block of users. */
#ifndef LIME_WORK_H
#define LIME_WORK_H

#include "kernel.h"
#include "list.h"

enum { TILE = GROUPS * LANES, BLOCK = 256 / TILE, MAX_USERS = 120, T_BYTES = 1 << 18, LIST_BYTES = 1 << 21, FOLD_AT_ONCE = 8 };

#if defined(LIME_SCREEN)
enum { MANY_USERS = 32, SETTLE_STEP = 2 * TILE }; /* tests have more than one block, and step */
#else
enum { MANY_USERS = 512, SETTLE_STEP = 4096 };
#endif

/* F that estimates are made for, pairs that are scored side by side, and what candidates may take that lie so, or that
   are kept in bfloat16. */
enum { MAX_SCREENED = 512, AWAITED = LANES, ROW_BYTES = 1 << 25, LOW_BYTES = 1 << 21 };

/* Notes to be scored together: of a linear head those of one panel of 16 users, of others with their hidden layers. */
typedef struct {
  float hidden[AWAITED * MAX_SCREENED];   /* [AWAITED, F] */
  const float *rows[AWAITED];
  float *least[AWAITED], *most[AWAITED];
  uint32_t positions[AWAITED];
  int64_t users[AWAITED];
  int count;
} awaited;

/* Candidates whose numbers lie side by side, A, G and W from the start of a vector each: all, or those that await a score. */
typedef struct {
  float *rows;                  /* [count, size] */
  uint8_t *turned;              /* [count / 16] of all: whether a group is there yet */
  int64_t count, size, G, W;    /* rows, numbers of one, and where its G and W are */
  int all;
} candidate_rows;

/* A tile of candidates in bfloat16. */
typedef struct {
  uint32_t *A;                  /* pairs, [GROUPS, pairs, 16] */
  v16 *size, *lost;             /* [GROUPS]: |A| and |dA|, what bfloat16 lost of it */
} low_tile;

/* How far users' estimates may be off, [users] each: what a candidate's norms are multiplied by, and what is added. */
typedef struct {
  float *T, *dT, *rest;
} reach;

typedef struct {
  const lime_candidates *c;
  const lime_users *u;
  int64_t tiles, rows, k, room; /* rows: H*L; room: entries of one user's notes and of his keys */
  int64_t block;                /* users worked on together */
  int linear, screened;
  float *T;                     /* linear: [users / USERS_AT_ONCE, rows, USERS_AT_ONCE]; screened: [users, F / 16, rows, 16],
                                   both: [users / 16, rows, 16]; else a user's chunks of [rows, n] */
  float *turned;                /* one user's P as chunks of [d, n] over l */
  float *fold;                  /* [H, F / 16, d, 16], filled up with zeros */
  float *thresholds;            /* K scores are above, or K of what comes before are not below (so scans go by position);
                                   +infinity for the dummy users that fill up the last panel */
  list *lists;
  int64_t *spare;
  int64_t pairs, undecided;     /* screened: pairs of rows, filled up to whole tile registers; notes that may await a score */
  uint32_t *T_low;              /* bfloat16 pairs, [users, F, pairs] */
  uint32_t *columns;            /* 16 columns of them, not turned yet */
  low_tile low;                 /* the first tile in bfloat16; the others follow, or take its place */
  int64_t low_tiles, *lowered;  /* how many there is memory for, all or one; how many are kept already */
  awaited *awaited;
  candidate_rows side_by_side;
  reach reach;
  v16 *leads;                   /* linear: [lead_rows, users], what the best of groups of candidates have at least */
  v16 *own_leads;               /* linear: [lead_rows] of one user, side by side */
  int64_t lead_rows;
  int32_t *next;                /* [users] the tile of a user's next denied candidate */
} work;

static int64_t whole(int64_t n, int64_t unit) { return (n + unit - 1) / unit; }

#endif
