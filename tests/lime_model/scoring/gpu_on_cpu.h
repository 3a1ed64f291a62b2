/* What CUDA C has beside C++, for blocks of one thread that run one after another. */
#include <math.h>
#include <string.h>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __popc __builtin_popcount

struct place { int x, y; };
struct __align__(16) float4 { float x, y, z, w; };

static place blockIdx, threadIdx = {0, 0}, blockDim = {1, 1};

static int __float_as_int(float x) {
  int bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
static unsigned __ballot_sync(unsigned, bool flag) { return flag; }
static int __shfl_sync(unsigned, int value, int) { return value; }
static int atomicAdd(int *sum, int more) { return (*sum += more) - more; }
static void __syncthreads(void) {}
