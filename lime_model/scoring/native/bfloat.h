/* bfloat16, the upper half of a float32, two a lane: what estimates are made of (`screen.h` bounds their error). */
#ifndef LIME_BFLOAT_H
#define LIME_BFLOAT_H

#include "vector.h"

typedef uint32_t u16lanes __attribute__((vector_size(64)));

/* The nearest bfloat16 of each lane, as a float. What is denormal becomes zero, as the processor's products take it. */
INLINE v16 nearest_bfloat(v16 x) {
  u16lanes bits = (u16lanes)x;
  u16lanes nearest = (bits + 0x7fff + ((bits >> 16) & 1)) & 0xffff0000;
  return (v16)(nearest & (u16lanes)((bits & 0x7f800000) != 0));
}

/* Two floats that are bfloat16 in one lane. */
INLINE u16lanes pair_of(v16 first, v16 second) { return (u16lanes)first >> 16 | (u16lanes)second; }

/* sum + a[0] * b[0] + a[1] * b[1] a lane; how it is rounded between is open */
INLINE v16 add_products(v16 sum, u16lanes a, u16lanes b) {
  sum = fma16((v16)(a & 0xffff0000), (v16)(b & 0xffff0000), sum);
  return fma16((v16)(a << 16), (v16)(b << 16), sum);
}

#endif
