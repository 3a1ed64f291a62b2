/* Fused multiply-adds that never leave the registers: what one core could do at most. */
#include <stdint.h>

typedef float v16 __attribute__((vector_size(64)));
enum { CHAINS = 12 };

double fma_peak(int64_t rounds) { /* floating-point operations done */
  v16 sums[CHAINS], x, y;
  for (int i = 0; i < 16; i++) x[i] = 1.0f - 1e-7f * (float)i, y[i] = 1e-9f;
  for (int c = 0; c < CHAINS; c++) sums[c] = x;
  for (int64_t r = 0; r < rounds; r++) {
#pragma clang loop unroll(full)
    for (int c = 0; c < CHAINS; c++) sums[c] = __builtin_elementwise_fma(sums[c], x, y);
  }
  volatile float kept = 0;
  for (int c = 0; c < CHAINS; c++) kept += sums[c][c];
  return 2.0 * 16 * CHAINS * (double)rounds;
}
