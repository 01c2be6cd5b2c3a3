/* pack.c: weights in panels of 16 rows, so that a vector holds one column of 16 rows (or four
 * columns in bytes) and a product needs no horizontal sums. Nothing is rounded: unpacking
 * (tests/unpack.c) gives back the file's bytes.
 *
 * f32, f16, bf16: [cols][16], the row fastest.
 *
 * Quantised types: a packed block for 32 columns. Columns come in eight groups g of four; a "plane"
 * is 64 bytes, four for each of 16 rows: byte 4 * row + i belongs to column 4 * g + i.
 *
 *         planes                                                   scales                    bytes
 *   q8_0    0..7: q (signed) of group g                          f16 d[16]                 544
 *   q4_0    0..3: q of group g in the low nibble, g + 4 in the   f16 d[16]                 288
 *           high
 *   q5_0    as q4_0; 4: bit g is the fifth bit of group g's q    f16 d[16]                 352
 *   q4_1    as q4_0                                              f16 d[16], f16 m[16]      320
 *   q5_1    as q5_0                                              f16 d[16], f16 m[16]      384
 *   iq4_nl  as q4_0                                              f16 d[16]                 288
 *   q2_k    0, 1: bits 2g.. are q of groups 0..3, 4..7           u8 scale | min<<4 [2][16] 160
 *   q3_k    as q2_k; 2: bit g is the third bit                   i8 scale[2][16]           224
 *   q4_k    as q4_0                                              u8 scale[16], u8 min[16]  288
 *   q5_k    as q5_0                                              u8 scale[16], u8 min[16]  352
 *   q6_k    as q4_0; 4, 5 as q2_k: the upper bits                i8 scale[2][16]           416
 *   iq4_xs  as q4_0                                              i8 scale[16]              272
 *
 * Superblocks: after eight packed blocks, f16 d[16] and f16 dmin[16] (or zero), 64 bytes. */
#include <string.h>

#include "../base/base.h"
#include "kernels.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#pragma GCC push_options
#pragma GCC optimize("Os") /* most have AVX2 */
#define GQA_SMALL_CODE
#endif
#define PACK_ROWS 4
#define PACK_CODES gqa_pack_codes_any
typedef gqa_words row_words;
static inline void load_rows(row_words w[4], const uint8_t *raw, size_t row_bytes) {
    gqa_transpose_words(w, sizeof *w, raw, row_bytes);
}
#include "pack_impl.h"
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#pragma GCC pop_options
#endif

size_t gqa_packed_block_bytes(int type) {
    switch (type) {
    case GQA_TYPE_Q2_K: return 2 * PLANE + 32;
    case GQA_TYPE_Q3_K: return 3 * PLANE + 32;
    case GQA_TYPE_IQ4_XS: return 4 * PLANE + 16;
    case GQA_TYPE_Q4_0: case GQA_TYPE_Q4_K: case GQA_TYPE_IQ4_NL: return 4 * PLANE + 32;
    case GQA_TYPE_Q4_1: return 4 * PLANE + 64;
    case GQA_TYPE_Q5_0: case GQA_TYPE_Q5_K: return 5 * PLANE + 32;
    case GQA_TYPE_Q5_1: return 5 * PLANE + 64;
    case GQA_TYPE_Q6_K: return 6 * PLANE + 32;
    case GQA_TYPE_Q8_0: return 8 * PLANE + 32;
    default: return 0;
    }
}

size_t gqa_panel_bytes(int type, int cols) {
    size_t n = cols, packed = gqa_packed_block_bytes(type), bytes = n / 32 * packed;
    if (!packed) bytes = n * GQA_PANEL * (type == GQA_TYPE_F32 ? 4 : 2);
    else if (is_k_quant(type)) bytes = n / 256 * (8 * packed + 64);
    return round_up(bytes, 64);
}

int gqa_type_wants_q8(int type) { return gqa_packed_block_bytes(type) != 0; }

/* ---- scales --------------------------------------------------------------------------------- */

/* Two bytes of every row, which lie row_bytes apart, beside each other. */
static void pack_halves(const uint8_t *raw, size_t row_bytes, uint8_t *packed) {
    for (int row = 0; row < GQA_PANEL; row += 4, raw += 4 * row_bytes, packed += 8) {
        memcpy(packed, raw, 2);
        memcpy(packed + 2, raw + row_bytes, 2);
        memcpy(packed + 4, raw + 2 * row_bytes, 2);
        memcpy(packed + 6, raw + 3 * row_bytes, 2);
    }
}

/* Interleaves each of lines 0..7 with that 8 lines below. */
static void interleave_halves(const gqa_octets from[16], gqa_octets to[16]) {
    for (int i = 0; i < 8; i++) gqa_interleave(from[i], from[i + 8], to + 2 * i);
}

/* Byte j of line i becomes byte i of line j: each step rotates the eight digits of a byte's address
 * by one. */
static void transpose_bytes(gqa_octets lines[16]) {
    gqa_octets other[16];
    for (int i = 0; i < 2; i++) {
        interleave_halves(lines, other);
        interleave_halves(other, lines);
    }
}

static void pack_k_scales(int type, const uint8_t *b, size_t row_bytes, uint8_t *packed) {
    const int of_32 = type == GQA_TYPE_Q4_K || type == GQA_TYPE_Q5_K || type == GQA_TYPE_IQ4_XS;
    const size_t block = gqa_packed_block_bytes(type);
    const super_fields at = *fields_of(type);
    gqa_octets scales[16];
    uint8_t *tail = packed + 8 * block;
    memset(tail, 0, 64);
    pack_halves(b + at.d, row_bytes, tail);
    if (at.dmin >= 0) pack_halves(b + at.dmin, row_bytes, tail + 32);
    for (int row = 0; row < GQA_PANEL; row += 4, b += 4 * row_bytes)
        gqa_k_scales(type, b, row_bytes, (uint8_t(*)[16])(scales + row));
    transpose_bytes(scales);
    for (int s = 0; s < 8; s++) {
        packed += block;
        memcpy(packed - (type == GQA_TYPE_IQ4_XS ? 16 : 32), scales + (of_32 ? s : 2 * s), 16);
        if (type != GQA_TYPE_IQ4_XS)
            memcpy(packed - 16, scales + (of_32 ? 8 + s : 2 * s + 1), 16);
    }
}

/* ---- panels --------------------------------------------------------------------------------- */

/* Columns 2i and 2i + 1 of f16 and bf16, which are one word of a row, apart. */
static void part_halves(uint8_t *packed) {
    for (int plane = 0; plane < 16; plane++, packed += PLANE) {
        gqa_halves a, b, c, d, columns;
        memcpy(&a, packed, sizeof a);
        memcpy(&b, packed + 16, sizeof b);
        memcpy(&c, packed + 32, sizeof c);
        memcpy(&d, packed + 48, sizeof d);
        columns = gqa_even(a, b);
        memcpy(packed, &columns, sizeof columns);
        columns = gqa_even(c, d);
        memcpy(packed + 16, &columns, sizeof columns);
        columns = gqa_odd(a, b);
        memcpy(packed + 32, &columns, sizeof columns);
        columns = gqa_odd(c, d);
        memcpy(packed + 48, &columns, sizeof columns);
    }
}

/* A block of 16 rows; of float types 64 bytes of each. */
static void pack_block(int type, const uint8_t *raw, size_t row_bytes, uint8_t *packed,
                       gqa_pack_codes *pack) {
    const size_t bytes = gqa_packed_block_bytes(type);
    pack(type, raw, row_bytes, packed);
    if (is_k_quant(type)) {
        pack_k_scales(type, raw, row_bytes, packed);
    } else if (bytes) {
        const int two = type == GQA_TYPE_Q4_1 || type == GQA_TYPE_Q5_1;
        if (two) pack_halves(raw + 2, row_bytes, packed + bytes - 32);
        pack_halves(raw, row_bytes, packed + bytes - (two ? 64 : 32));
    } else if (type != GQA_TYPE_F32) {
        part_halves(packed);
    }
}

/* Calls for the next panel's bytes too: rows are read side by side, which the memory does not
 * guess. */
void gqa_pack_panel(const gqa_matrix *w, int panel, uint8_t *dst, gqa_pack_codes *pack) {
    enum { LINE = 64, LARGEST = 256 };
    const size_t bytes = gqa_packed_block_bytes(w->type);
    const size_t row_bytes = gqa_type_bytes(w->type, w->cols), panel_rows = GQA_PANEL * row_bytes;
    const size_t block = bytes ? gqa_type_info_of(w->type)->bytes : LINE;
    const size_t packed = !bytes ? GQA_PANEL * LINE : is_k_quant(w->type) ? 8 * bytes + 64 : bytes;
    const int n_rows = min_int(w->rows - panel * GQA_PANEL, GQA_PANEL);
    const uint8_t *raw = w->raw + panel * panel_rows, *next = raw + panel_rows;
    uint8_t filled[GQA_PANEL * LARGEST]; /* where rows or columns are missing: with 0 */
    uint8_t last[GQA_PANEL * LINE];
    for (size_t at = 0; at < row_bytes; at += block, next += GQA_PANEL * block, dst += packed) {
        const size_t size = min_size(row_bytes - at, block);
        const int is_whole = n_rows == GQA_PANEL && size == block;
        for (size_t i = 0; i < GQA_PANEL * block; i += LINE) __builtin_prefetch(next + i);
        if (!is_whole) {
            memset(filled, 0, sizeof filled);
            for (int r = 0; r < n_rows; r++)
                memcpy(filled + r * LARGEST, raw + r * row_bytes + at, size);
        }
        pack_block(w->type, is_whole ? raw + at : filled, is_whole ? row_bytes : LARGEST,
                   size == block ? dst : last, pack);
        if (size < block) memcpy(dst, last, GQA_PANEL * size);
    }
}

/* ---- parts ---------------------------------------------------------------------------------- */

gqa_matrix gqa_matrix_rows(const gqa_matrix *w, int first, int rows) {
    gqa_matrix m = *w;
    m.rows = rows;
    m.raw += (size_t)first * gqa_type_bytes(w->type, (uint64_t)w->cols);
    if (m.packed) m.packed += (size_t)(first / GQA_PANEL) * w->panel_bytes;
    return m;
}

size_t gqa_matmul_scratch(int max_k) {
    return GQA_MATMUL_SCRATCH + GQA_UNIT_PANELS * gqa_panel_bytes(GQA_TYPE_F32, max_k);
}
