/* kernels.h: the arithmetic, one table of functions an instruction set. Kernels know pointers,
 * sizes and strides; they know no model. The functions are written once, in the *_impl.h files,
 * over the vector operations of simd_*.h, and compiled once for each instruction set (isa_*.c);
 * gqa_kernels_find chooses a table at run time.
 *
 * Names: k is the inner (summed) length of a product, n counts columns of x (tokens), rows are
 * outputs. All activations are f32, token-major: x [n, k], y [n, rows]. Nothing here allocates,
 * prints or fails. */
#ifndef GQA_KERNELS_H
#define GQA_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "tensor.h"
#include "transpose.h"

/* ---- weights: packed panels of 16 rows ------------------------------------------------------ */

enum { GQA_PANEL = 16 };          /* rows a panel; lane = row: products need no horizontal sums */
enum { GQA_UNIT_PANELS = 4 };     /* panels a unit of work: 64 rows */
enum { GQA_DECODE_ORDER = 16 };   /* columns up to which products add in the order of decoding */

/* A weight matrix [rows, cols]. raw is row-major blocks as in the file. packed is the same numbers
 * in panels (drawn in pack.c), 64-byte aligned, panel_bytes each; NULL: each unit packs what it
 * needs into scratch first. */
typedef struct gqa_matrix {
    int type, rows, cols;
    const uint8_t *raw;
    const uint8_t *packed;
    size_t panel_bytes;
    int exact; /* multiplied with activations in two planes, if its type wants int8 ones */
} gqa_matrix;

static inline int gqa_matrix_panels(const gqa_matrix *w) {
    return (w->rows + GQA_PANEL - 1) / GQA_PANEL;
}
static inline int gqa_matmul_units(const gqa_matrix *w) {
    return (gqa_matrix_panels(w) + GQA_UNIT_PANELS - 1) / GQA_UNIT_PANELS;
}
/* `rows` rows of w from `first` on, which is a multiple of 16 where w is packed. */
gqa_matrix gqa_matrix_rows(const gqa_matrix *w, int first, int rows);
size_t gqa_panel_bytes(int type, int cols);    /* 64-byte multiple */
/* Of 32 columns of a panel; 0 for float types. */
size_t gqa_packed_block_bytes(int type);
/* The codes of a block of 16 rows, row_bytes apart, without its scales: 32 columns, of K types 256;
 * float types: 16 words of each row. A table's pack_codes, or that for any CPU. */
typedef void gqa_pack_codes(int type, const uint8_t *raw, size_t row_bytes, uint8_t *packed);
gqa_pack_codes gqa_pack_codes_any;
/* Packs rows 16 * panel .. 16 * panel + 15 (rows past the end become zero) from w->raw into
 * dst [panel_bytes], exactly; the same bytes whatever `pack` is. */
void gqa_pack_panel(const gqa_matrix *w, int panel, uint8_t *dst, gqa_pack_codes *pack);

/* ---- the CPU -------------------------------------------------------------------------------- */

/* What sets of kernels need; AVX512 is with VNNI, DOT, I8MM and BF16 are aarch64's products, BF16
 * x86's too. EVERY_LINE: AVX2's kernels read faster if every line is asked for (fetch_ahead). */
enum {
    GQA_CPU_ANY, GQA_CPU_AVX2, GQA_CPU_AVXVNNI, GQA_CPU_AVX512, GQA_CPU_DOT, GQA_CPU_I8MM,
    GQA_CPU_BF16, GQA_CPU_EVERY_LINE
};
/* And the system keeps its registers. Takes microseconds in a virtual machine. */
int gqa_cpu_has(int feature);

/* ---- activations ---------------------------------------------------------------------------- */

/* n columns x [n, k] with stride ldx, and their int8 form, which quantize_acts makes for the weight
 * types that want it (gqa_type_wants_q8). Blocks of 32: q = round(x / d), d = max|x| / 127.
 * gqa_acts_init carves the buffers from one allocation; those of the int8 form have room for a
 * multiple of 4 columns, since decoding multiplies 4 where 2 or 3 are left, and drops the rest. n
 * columns in two planes, 16 bits, are 2 n: what column i rounds away is column n + i. */
typedef struct gqa_acts {
    int k;
    int every_line;                /* gqa_cpu_has(GQA_CPU_EVERY_LINE) */
    size_t kpad;                   /* k rounded up to 256 */
    const float *x;
    size_t ldx;
    int8_t *q;                     /* [n, kpad] zero-padded */
    float *d;                      /* [n, kpad/32] */
    float *dsum;                   /* [n, kpad/32]: d times the sum of the block's q */
    int32_t *bias32, *bias16;      /* [n, kpad/32], [n, kpad/16]: -128 times the sum of q */
    uint16_t *bf16;                /* [n, kpad] x rounded to bf16, which round_acts makes; NULL:
                                    * products of float weights are in f32 always */
} gqa_acts;
/* max_n counts columns, two for an activation in two planes. */
uint64_t gqa_acts_bytes(int k, int max_n);
/* memory: 64-byte aligned, gqa_acts_bytes long. */
void gqa_acts_init(gqa_acts *a, void *memory, int k, int max_n);
int gqa_type_wants_q8(int type);
/* Whether decoding two columns costs hardly more than one: the types that most files have. */
int gqa_type_has_pairs(int type);

/* rest: the block x [32] less d q; returned. */
const float *gqa_residual(const float *x, const int8_t *q, float d, float rest[32]);

/* ---- KV cache ------------------------------------------------------------------------------- */

enum { GQA_KV_TILE = 32 };        /* positions a tile */
enum { GQA_KV_SPLIT = 512 };      /* positions a split of decoding: fixed, so that results do not
                                     depend on the number of threads */
enum { GQA_ATTEND_ROWS = 8 };     /* query rows that go through a tile together, at most */
enum { GQA_PREFILL_TILE = 16 };   /* query positions a prefill unit */

/* The cache of one layer: [heads][n_tiles] tiles of 32 positions, K and V apart. Tiles are
 * drawn in cache_impl.h. Position p is in tile (p / 32) % n_tiles, so that a sliding window is
 * a ring of tiles; a cache that holds everything has n_tiles >= context / 32. Memory starts
 * zeroed. */
typedef struct gqa_kv {
    int k_type, v_type;           /* f32, f16, bf16, q8_0, q4_0 */
    int n_kv_heads, head_dim;
    int n_v_heads;                /* heads of V's tiles: n_kv_heads, with shared_dim 1 */
    int value_dim;                /* as head_dim, but in deepseek2 */
    int shared_dim;               /* of K: what all heads share, in V's place (cache_impl.h); 0:
                                   * K and V are a head's own */
    int n_tiles;
    size_t k_tile_bytes, v_tile_bytes;
    uint8_t *k, *v;               /* 64-byte aligned */
    float softcap;                /* s: scores become s * tanh(score / s); 0: as they are */
} gqa_kv;

/* Tiles before this one; of kv_head n, all tiles of the heads before it. */
static inline size_t gqa_kv_tile_index(const gqa_kv *kv, int kv_head, int tile) {
    return (size_t)kv_head * (size_t)kv->n_tiles + (size_t)(tile % kv->n_tiles);
}
/* 64-byte multiples; 0: the type cannot be cached. */
size_t gqa_kv_k_tile_bytes(int type, int head_dim);
size_t gqa_kv_v_tile_bytes(int type, int head_dim);
/* The types of keys and values by a name such as "q8_0" or "q8_0/q4_0" (NULL: "f16"). 0, or -1. */
int gqa_kv_types(const char *name, int *k_type, int *v_type);
/* Their name. Written to buf, returned. */
const char *gqa_kv_name(int k_type, int v_type, char buf[24]);

/* The partial result of a split for a group of g heads: per head the maximum of its scores, the sum
 * of exponentials and the weighted values: float m[g], l[g], o[g][value_dim]. */
static inline size_t gqa_partial_floats(int group, int value_dim) {
    return (size_t)group * ((size_t)value_dim + 2);
}

/* ---- the table ------------------------------------------------------------------------------ */

typedef struct gqa_adamw {
    float rate, beta1, beta2, eps, decay;
    float grad_scale;           /* clipping: the gradient is multiplied by it first */
    float correct1, correct2;   /* 1 / (1 - beta^step): the moments start at zero */
} gqa_adamw;

typedef struct gqa_kernels {
    const char *name; /* "scalar", "avx2", "avxvnni", "avx512", "neon" */
    gqa_pack_codes *pack_codes;

    /* Fills a's int8 form of columns i0..i1-1 for elements k0..k1-1 (multiples of 32, or
     * the end). rest >= i1, or 0: and column i + rest with what rounding column i leaves. */
    void (*quantize_acts)(gqa_acts *a, int i0, int i1, int k0, int k1, int rest);

    /* One unit (64 rows) of y [n, rows] = x w^T: writes y[i * ldy + r] for its rows r and all n
     * columns. scratch: the thread's own gqa_matmul_scratch bytes, 64-byte aligned. An element of
     * a quantised type is summed in the same order whatever n is; of a float type, for n up to
     * GQA_DECODE_ORDER. */
    void (*matmul_unit)(const gqa_matrix *w, const gqa_acts *a, int n, float *y, size_t ldy,
                        int unit, void *scratch);

    /* For CPUs with dot products of bf16 (gqa_kernels_have_bf16); NULL: none in this set. Fills
     * a->bf16 as quantize_acts fills the int8 form. Where there is one, matmul_unit rounds float
     * weights to bf16 too for more than GQA_DECODE_ORDER columns, and sums pairs in f32. */
    void (*round_acts)(gqa_acts *a, int i0, int i1, int k0, int k1);

    /* C [m, n] = A [m, k] B [k, n], or += with accumulate, for f32 with any strides: element (i, j)
     * of A is A[i * a_row + j * a_col]; C is row-major with stride ldc. scratch: gqa_sgemm_scratch
     * bytes, 64-byte aligned. One thread; a caller splits m or n. */
    void (*sgemm)(int m, int n, int k, const float *A, size_t a_row, size_t a_col, const float *B,
                  size_t b_row, size_t b_col, float *C, size_t ldc, int accumulate, void *scratch);

    /* out = x / sqrt(mean(x^2) + eps) * weight, n values (Zhang & Sennrich 2019). out may be x. */
    void (*rmsnorm)(float *out, const float *x, const float *weight, int n, float eps);
    /* Rotates rope_dim leading values of one head in place (Su et al. 2021); cos_sin: cos
     * [rope_dim/2], then sin. half: pairs (i, i + rope_dim/2), else (2i, 2i + 1). */
    void (*rope)(float *head, const float *cos_sin, int rope_dim, int half);
    /* out = silu(gate) * up (Shazeer 2020). out may be gate. */
    void (*swiglu)(float *out, const float *gate, const float *up, int n);
    /* The same with gelu by its tanh form (Hendrycks & Gimpel 2016). */
    void (*geglu)(float *out, const float *gate, const float *up, int n);
    /* x += y. */
    void (*add)(float *x, const float *y, int n);

    /* Appends k, v [head_dim] of one position and one KV head, RoPE applied. */
    void (*kv_append)(gqa_kv *kv, int kv_head, int position, const float *k, const float *v);
    /* One decode unit, a split: the group's queries q [group][head_dim] against positions t0..t1-1
     * of a KV head (t1 - t0 >= 1), each K and V row read once for the group. Online softmax
     * (Milakov & Gimelshein 2018). scale is 1/sqrt(head_dim). scratch: gqa_attention_scratch
     * bytes. */
    void (*attend_decode)(const gqa_kv *kv, int kv_head, const float *q, int group, float scale,
                          int t0, int t1, float *partial, void *scratch);
    /* Combines n partial results, gqa_partial_floats apart, by log-sum-exp: out[g * ld_out + d].
     * n = 1 only normalises. */
    void (*combine_splits)(const float *partials, int n, int group, int value_dim, float *out,
                           size_t ld_out);
    /* One prefill unit: positions p0..p0+n_q-1 (n_q <= GQA_PREFILL_TILE) of the group's heads
     * against the cache, causal: a query at p sees positions max(0, p - window + 1) .. p (window
     * 0: from 0). Query head g of position i is q[i * ldq + g * head_dim]; its output out[i * ldo +
     * g * value_dim]. All positions are in the cache already. */
    void (*attend_prefill)(const gqa_kv *kv, int kv_head, const float *q, size_t ldq, int group,
                           float scale, int p0, int n_q, int window, float *out, size_t ldo,
                           void *scratch);

    /* For training (grad_impl.h). */
    /* x[n] = softmax(scale * x), scale > 0; returns the log of the sum of exp(scale * x). */
    float (*softmax)(float *x, int n, float scale);
    /* The same from that logarithm: x = exp(scale * x - lse). */
    void (*softmax_from_lse)(float *x, int n, float scale, float lse);
    /* dx = p * (dx - delta) * scale: the gradient through p = softmax(scale * x), where
     * delta = dot(p, dx). */
    void (*softmax_grad)(float *dx, const float *p, int n, float scale, float delta);
    float (*dot)(const float *a, const float *b, int n);
    /* Gradients of out = silu(gate) * up from dout. */
    void (*swiglu_grad)(float *dgate, float *dup, const float *dout, const float *gate,
                        const float *up, int n);
    /* Adds the gradients of rmsnorm(x, weight) to dx and dweight [n]. */
    void (*rmsnorm_grad)(float *dx, float *dweight, const float *dout, const float *x,
                         const float *weight, int n, float eps);
    /* One step of AdamW (Loshchilov & Hutter 2019) for n weights w with moments m, v and gradient
     * g. */
    void (*adamw)(float *w, float *m, float *v, const float *g, size_t n, const gqa_adamw *options);

    /* Loops at the limits of the machine (peak_impl.h). *macs: multiply-adds done. */
    float (*peak_float)(long rounds, double *macs);
    int32_t (*peak_int8)(long rounds, double *macs);
    float (*peak_bf16)(long rounds, double *macs);       /* as round_acts */
    int32_t (*peak_read)(const void *data, size_t size); /* size a multiple of 256 */
} gqa_kernels;

/* Blocks of sgemm: a micro-panel of B (KC deep) stays in the first-level cache, a block of A
 * (MC x KC) in the second, and a block of B (KC x NC) beside it. */
enum { GQA_SGEMM_MC = 144, GQA_SGEMM_KC = 256, GQA_SGEMM_NC = 768 };
enum { GQA_MATMUL_SCRATCH = 192 << 10 };            /* bytes of it that hold unpacked weights */

/* Bytes a thread. */
size_t gqa_matmul_scratch(int max_k);
/* kernels->matmul_unit for n activations in one plane or two. scratch: what gqa_planes_scratch adds
 * for two planes of at most max_n, then gqa_matmul_scratch. */
void gqa_matmul_unit(const gqa_kernels *kernels, const gqa_matrix *w, const gqa_acts *a, int n,
                     int planes, float *y, size_t ldy, int unit, void *scratch);
size_t gqa_planes_scratch(int max_n);
size_t gqa_sgemm_scratch(void);
size_t gqa_attention_scratch(int group, int head_dim); /* attend_decode and attend_prefill */

/* The table of an instruction set, by its name; isa NULL: of the best that this CPU has. NULL: not
 * on this CPU or not in this build. */
const gqa_kernels *gqa_kernels_find(const char *isa);
/* The names of all that this CPU has, best first; returns how many, at most cap. */
int gqa_kernels_list(const char **names, int cap);
/* As gqa_kernels_find, but isa NULL means $GQA_ISA if that is set; NULL comes with a message. */
const gqa_kernels *gqa_kernels_choose(const char *isa, gqa_error *err);
extern const gqa_kernels gqa_kernels_scalar;

#if defined(__x86_64__) && !defined(GQA_ONLY_SCALAR)
gqa_pack_codes gqa_pack_codes_avx2; /* of all x86-64 sets */
#endif
/* Where the compiler knows AVX-VNNI: what isa_avxvnni.c has for the table in isa_avx2.c. */
#if defined(__x86_64__) && !defined(GQA_ONLY_SCALAR) && __has_include(<avxvnniintrin.h>)
#define GQA_HAS_AVXVNNI
void gqa_matmul_unit_avxvnni(const gqa_matrix *w, const gqa_acts *a, int n, float *y, size_t ldy,
                             int unit, void *scratch); /* of types that gqa_type_wants_q8 */
int32_t gqa_peak_int8_avxvnni(long rounds, double *macs);
#endif
/* The same for aarch64's i8mm and isa_neon_i8mm.c; older clangs have its functions only where all
 * of a program is compiled for it. */
#if defined(__aarch64__) && !defined(GQA_ONLY_SCALAR) && \
    (defined(__clang__) ? __clang_major__ >= 16 : __GNUC__ >= 10)
#define GQA_HAS_I8MM
void gqa_matmul_unit_neon_i8mm(const gqa_matrix *w, const gqa_acts *a, int n, float *y, size_t ldy,
                               int unit, void *scratch);
int32_t gqa_peak_int8_neon_i8mm(long rounds, double *macs);
#endif
/* bf16.c: whether this CPU can run the set's functions of bf16, and whether it multiplies in bf16
 * at 1.5 times the rate of f32 or more, which takes half a millisecond to measure. No CPU is near
 * that: the rate is 2, or at most 1. */
int gqa_kernels_have_bf16(const gqa_kernels *k);
int gqa_kernels_gain_by_bf16(const gqa_kernels *k);

#endif
