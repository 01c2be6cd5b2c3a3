/* base.h: what all files of the library share: errors, arithmetic, memory pages, files. */
#ifndef GQA_BASE_H
#define GQA_BASE_H

/* A product and a sum are rounded one by one, or results would depend on the compiler's choice. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "../model.h"
#include "os.h"

/* Model files are little-endian, and their tensors are used in place. */
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "gqa.c needs a little-endian machine"
#endif

/* Fill *err (when not NULL) and return code, so that a caller can write `return gqa_fail(...);`.
 * gqa_fail_path and gqa_vfail put "PATH: " before the message; for gqa_vfail path may be NULL. */
GQA_PRINTF(3, 4)
int gqa_fail(gqa_error *err, gqa_status code, const char *format, ...);
GQA_PRINTF(4, 5)
int gqa_fail_path(const char *path, gqa_error *err, gqa_status code, const char *format, ...);
GQA_PRINTF(4, 0)
int gqa_vfail(const char *path, gqa_error *err, gqa_status code, const char *format, va_list args);

/* Copies text with control characters as "\x1b", so that a file's strings can do a terminal no
 * harm; cut where it does not fit in out [capacity]. */
void gqa_escape(char *out, size_t capacity, const char *text);

/* 0 when the reserved tail of a caller's struct is zero, else an error that names the struct. */
int gqa_check_reserved(const void *tail, size_t size, const char *what, gqa_error *err);

/* Checked arithmetic on sizes: return 0 and write *out, or -1 on overflow. */
static inline int gqa_mul_size(uint64_t a, uint64_t b, uint64_t *out) {
    return __builtin_mul_overflow(a, b, out) ? -1 : 0;
}
static inline int gqa_add_size(uint64_t a, uint64_t b, uint64_t *out) {
    return __builtin_add_overflow(a, b, out) ? -1 : 0;
}

/* The number of elements of an array (not of a pointer). */
#define array_length(array) (sizeof(array) / sizeof(array)[0])

static inline int min_int(int a, int b) { return a < b ? a : b; }
static inline int max_int(int a, int b) { return a > b ? a : b; }
static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t max_size(size_t a, size_t b) { return a > b ? a : b; }
/* n / m rounded up, for n >= 0 and m > 0. */
static inline int ceil_div(int n, int m) { return (n + m - 1) / m; }
/* n rounded up to a multiple of m, a power of two. */
static inline size_t round_up(size_t n, size_t m) { return (n + m - 1) & ~(m - 1); }
/* The same for sizes in files, and any m > 0. */
static inline uint64_t align_up(uint64_t n, uint64_t m) { return (n + m - 1) / m * m; }

/* sampler.c: the index of the largest of x [n], the lowest on a tie. */
int32_t gqa_arg_max(const float *x, int n);

/* A read-only file, mapped whole. */
typedef struct gqa_map {
    const uint8_t *data;
    size_t size;
    gqa_file_id id;
} gqa_map;
/* Directories and empty files are refused, each with a message of its own. */
int gqa_map_open(gqa_map *map, const char *path, gqa_error *err);
void gqa_map_close(gqa_map *map);
/* gqa_os_release for bytes of the map and those mapped along with them; nothing for others. */
void gqa_map_release(const gqa_map *map, const void *data, size_t size);

/* Opens a file for fread; *size is its length. Refuses what gqa_map_open refuses. */
int gqa_input_open(FILE **file, uint64_t *size, const char *path, gqa_error *err);
enum { GQA_MOST_BYTES = 1 << 30 }; /* of one fread or fwrite: Windows' never ends with 4 GiB */
int gqa_input_read(FILE *file, void *data, size_t size); /* 1, or 0: not so many bytes */

/* Whether both paths lead to one existing file, also by links. */
int gqa_same_file(const char *a, const char *b);
/* The path of a file with this name in the folder of another. 0, or -1 when that is too long. */
int gqa_path_beside(const char *file, const char *name, char *out, size_t size);

/* A file being written: a new one, "PATH.tmp.PID.N", until gqa_output_finish renames it to PATH, or
 * to the file that PATH leads to by symbolic links. After any failure the existing file is left as
 * it was. A PATH that a rename would damage (a device, a directory) is refused. */
typedef struct gqa_output {
    FILE *file;             /* NULL: none */
    int failed;             /* errno of the first write that failed */
    char path[1024], temporary[1088];
} gqa_output;
int gqa_output_open(gqa_output *o, const char *path, gqa_error *err);
/* A failed write is reported by gqa_output_finish. */
void gqa_output_write(gqa_output *o, const void *data, size_t size);
int gqa_output_finish(gqa_output *o, gqa_error *err);
void gqa_output_cancel(gqa_output *o); /* deletes the unfinished file, if there is one */

/* Limits: a file or a caller that asks for more is refused. */
enum {
    GQA_MAX_DIM = 1 << 20,
    GQA_MAX_LAYERS = 1024,
    GQA_MAX_HEADS = 4096,
    GQA_MAX_HEAD_DIM = 1024,
    GQA_MAX_VOCAB = 1 << 24,
    GQA_MAX_CONTEXT = 1 << 24
};

#endif
