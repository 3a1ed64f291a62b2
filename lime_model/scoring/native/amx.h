/* Advanced Matrix Extensions: 16 rows by 16 lanes of products of bfloat16 pairs in one instruction. */
#ifndef LIME_AMX_H
#define LIME_AMX_H

#include <immintrin.h>
#include <sys/syscall.h>

#include "work.h"

long syscall(long number, ...); /* unistd.h hides it from standard C */

_Static_assert(GROUPS == 4, "four tile registers hold the sums of a tile");

/* Linux gives a process the tile registers when it asks for them: whether it did. */
static int amx_start(void) {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* This thread's eight tile registers, each 16 rows of 64 bytes, until `amx_close`. */
static void amx_open(void) {
  struct {
    uint8_t palette, start, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } shape = {.palette = 1};
  for (int i = 0; i < 8; i++) shape.row_bytes[i] = 64, shape.rows[i] = 16;
  _tile_loadconfig(&shape);
}

static void amx_close(void) { _tile_release(); }

/* Sums of 16 columns of T for a tile of candidates, from bfloat16: out [GROUPS, 16 columns, 16]. What they start from
   lies in steps of `group` and `column`; null where that is zero. */
INLINE void amx_multiply(const work *w, const uint32_t *A, const uint32_t *T, const float *from, int64_t group,
                         int64_t column, float *out) {
  int64_t pairs = w->pairs, row = pairs * 4;
#define START(g) from ? _tile_loadd(g, from + g * group, column * 4) : _tile_zero(g)
  START(0), START(1), START(2), START(3);
#undef START
  for (int64_t r = 0; r < pairs; r += 16) {
    _tile_loadd(4, T + r, row);
#define ADD(g, tile) _tile_loadd(tile, A + (g * pairs + r) * LANES, 64), _tile_dpbf16ps(g, 4, tile)
    ADD(0, 5), ADD(1, 6), ADD(2, 7), ADD(3, 5);
#undef ADD
  }
  _tile_stored(0, out, 64), _tile_stored(1, out + 256, 64);
  _tile_stored(2, out + 512, 64), _tile_stored(3, out + 768, 64);
}

/* Keep a tile of candidates in registers, where it fits. */
INLINE void amx_keep(const work *w, const uint32_t *A) {
  if (w->pairs != 16) return;
  _tile_loadd(4, A, 64), _tile_loadd(5, A + 256, 64), _tile_loadd(6, A + 512, 64), _tile_loadd(7, A + 768, 64);
}

/* As `amx_multiply` with the tile that is kept; `from` [GROUPS, 16] is for every column. */
INLINE void amx_multiply_kept(const work *w, const uint32_t *A, const uint32_t *T, const float *from, float *out) {
  if (w->pairs != 16) {
    amx_multiply(w, A, T, from, LANES, 0, out);
    return;
  }
  _tile_loadd(3, T, 64);
#define PART(g, sum, kept) \
  _tile_loadd(sum, from + g * LANES, 0), _tile_dpbf16ps(sum, 3, kept), _tile_stored(sum, out + g * 256, 64)
  PART(0, 0, 4), PART(1, 1, 5), PART(2, 2, 6), PART(3, 0, 7);
#undef PART
}

#endif
