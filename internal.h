/* internal.h: what the library's files share and an embedder does not see. */
#ifndef GQA_INTERNAL_H
#define GQA_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#include "model.h"

/* Model files are little-endian, and their tensors are used where they lie. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "gqa.c needs a little-endian machine"
#endif

/* Fills *err (when not NULL) and returns code, so that a caller can write `return gqa_fail(err, ...)`. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
int gqa_fail(gqa_error *err, gqa_status code, const char *format, ...);

/* Checked arithmetic on sizes: return 0 and write *out, or -1 on overflow. */
static inline int gqa_mul_size(uint64_t a, uint64_t b, uint64_t *out) { return __builtin_mul_overflow(a, b, out) ? -1 : 0; }
static inline int gqa_add_size(uint64_t a, uint64_t b, uint64_t *out) { return __builtin_add_overflow(a, b, out) ? -1 : 0; }

/* Zeroed, 64-byte aligned memory from the system in whole pages; pages take no memory until touched. NULL when there
 * is none. huge: ask for huge pages (memory that will be filled entirely and read in streams). */
void *gqa_pages_alloc(size_t size, int huge);
void gqa_pages_free(void *p, size_t size);

/* A read-only file, mapped whole. */
typedef struct gqa_map {
    const uint8_t *data;
    size_t size;
} gqa_map;
int gqa_map_open(gqa_map *map, const char *path, gqa_error *err); /* refuses directories and empty files by name */
void gqa_map_close(gqa_map *map);

/* Files are written beside their place and renamed into it: refuses a path that a rename would harm (a device, a folder). */
int gqa_check_output(const char *path, gqa_error *err);

/* Limits: anything above is refused before it is used. */
enum {
    GQA_MAX_DIM = 1 << 20,
    GQA_MAX_LAYERS = 1024,
    GQA_MAX_HEADS = 4096,
    GQA_MAX_HEAD_DIM = 1024,
    GQA_MAX_VOCAB = 1 << 24,
    GQA_MAX_CONTEXT = 1 << 24
};

#endif
