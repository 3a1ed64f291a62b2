/* Ids to positions by binary search in the mapped, sorted ids: no hash table of the catalogue in any worker. */
#include <string.h>

#include "kernel.h"

/* UTF-8 byte order, a prefix first */
static int compare(const uint8_t *a, int64_t a_size, const uint8_t *b, int64_t b_size) {
  int order = memcmp(a, b, (size_t)(a_size < b_size ? a_size : b_size));
  return order ? order : (a_size > b_size) - (a_size < b_size);
}

/* A stranger's position is -1 less the place where it would stand. */
void lime_find(const uint8_t *items, const int64_t *offsets, int64_t count, const uint8_t *ids,
               const int64_t *id_offsets, int64_t id_count, int64_t *positions) {
  for (int64_t i = 0; i < id_count; i++) {
    const uint8_t *id = ids + id_offsets[i];
    int64_t size = id_offsets[i + 1] - id_offsets[i], low = 0, high = count, found = 0;
    while (low < high && !found) {
      int64_t middle = low + (high - low) / 2;
      int order = compare(items + offsets[middle], offsets[middle + 1] - offsets[middle], id, size);
      found = order == 0;
      if (order < 0)
        low = middle + 1;
      else
        high = middle;
    }
    positions[i] = found ? high : -1 - low;
  }
}
