/* The scoring kernel's interface: plain structs that lime_model/scoring/kernel.py mirrors with ctypes. */
#ifndef LIME_KERNEL_H
#define LIME_KERNEL_H

#include <stdint.h>

typedef struct {
  int64_t count;                        /* C candidates, in groups of 16, filled up to whole tiles of 4 groups */
  int64_t heads, links, width, hidden;  /* H, L, d, F */
  int64_t relu;                         /* activation of the hidden layer: ReLU, else identity */
  const float *A;                       /* [groups, H*L, 16] */
  const float *G, *W;                   /* [groups, F, 16], or null where g and w stand for all candidates */
  const float *b;                       /* [groups, 16] */
  const float *fold;                    /* [H, d, F] */
  const float *g, *w;                   /* [F] */
  const float *A_max, *G_max, *W_max;   /* [H*L], [F], [F]: largest absolute values over all candidates */
  float b_max;
} lime_candidates;

typedef struct {
  int64_t count;                        /* B */
  const float *links;                   /* P [B, L, d] */
  const uint8_t *masks;                 /* [classes, groups * 2]: bit i of byte j is candidate 8 j + i */
  const int64_t *class_of;              /* [B] */
  const int64_t *denied_offsets;        /* [B + 1] */
  const int64_t *denied;                /* positions, sorted within a user */
} lime_users;

typedef struct {
  int64_t *positions;                   /* [B, K], -1 where a list is shorter */
  float *scores;                        /* [B, K], 0 there */
  int64_t *count;                       /* [B] */
  int64_t bad_user;                     /* whose links are refused */
} lime_lists;

enum { LIME_OK = 0, LIME_NO_MEMORY = 1, LIME_BAD_LINKS = 2 };

/* The name of the arithmetic: two builds of one name give the same bits. */
const char *lime_arithmetic(void);

/* Ask the operating system for what this build needs, before anything else of it: whether it may run. */
int lime_start(void);

/* The K best eligible candidates of every user. */
int lime_top_k(const lime_candidates *candidates, const lime_users *users, int64_t k, lime_lists *lists);

/* Positions of ids among the candidates' (sorted bytewise), -1 where an id is none of them. */
void lime_find(const uint8_t *items, const int64_t *offsets, int64_t count, const uint8_t *ids,
               const int64_t *id_offsets, int64_t id_count, int64_t *positions);

#endif
