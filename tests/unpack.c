/* unpack.c: from panels back to a file's blocks (kernels/pack.c draws both). */
#include "unpack.h"

#include <string.h>

#include "../base/base.h"

enum { PLANE = 4 * GQA_PANEL };

static uint32_t get32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static void put32(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

static uint32_t gather_bits(uint32_t word) {
    uint32_t qh = 0;
    for (int i = 0; i < 32; i++) qh |= (word >> (8 * (i % 4) + i / 4) & 1) << i;
    return qh;
}

static void unpack_block_0(int type, const uint8_t *packed, uint8_t *b, int row,
                           size_t packed_bytes) {
    const uint8_t *planes = packed + 4 * row;
    const int groups = type == GQA_TYPE_Q8_0 ? 8 : 4;
    const int five = type == GQA_TYPE_Q5_0 || type == GQA_TYPE_Q5_1;
    const int head = type == GQA_TYPE_Q4_1 || type == GQA_TYPE_Q5_1 ? 4 : 2;
    const uint8_t *scales = packed + packed_bytes - (size_t)(16 * head) + 2 * row;
    uint8_t *qs = b + head + (five ? 4 : 0);
    memcpy(b, scales, 2);
    if (head == 4) memcpy(b + 2, scales + 32, 2);
    for (int g = 0; g < groups; g++) put32(qs + 4 * g, get32(planes + g * PLANE));
    if (five) put32(b + head, gather_bits(get32(planes + 4 * PLANE)));
}

/* The q of sub-block s, 32 columns, into a K block that begins as zeros. */
static void unpack_sub_block(int type, const uint8_t *packed, uint8_t *b, int s, int row) {
    const int two = type == GQA_TYPE_Q2_K, three = type == GQA_TYPE_Q3_K;
    const int six = type == GQA_TYPE_Q6_K, five = type == GQA_TYPE_Q5_K;
    const int shift = six ? s % 4 / 2 * 4 : s % 2 * 4, nibbles = !two && !three;
    const uint8_t *planes = packed + 4 * row, *upper = planes + (nibbles ? 4 * PLANE : 0);
    uint8_t *ql = six ? b + s / 4 * 64 + s % 2 * 32 : b + (five ? 48 : 16) + s / 2 * 32;
    uint8_t *pairs = b + (six ? 128 : two ? 16 : 32) + s / 4 * 32, *bits = b + (five ? 16 : 0);
    if (type == GQA_TYPE_IQ4_XS) ql = b + 8 + 16 * s;
    for (int g = 0; g < 8; g++) {
        if (nibbles) {
            int is_xs = type == GQA_TYPE_IQ4_XS;
            uint32_t low = get32(planes + g % 4 * PLANE) >> (g / 4 * 4) & 0x0F0F0F0F;
            uint8_t *q = ql + (is_xs ? g % 4 * 4 : 4 * g);
            put32(q, get32(q) | low << (is_xs ? g / 4 * 4 : shift));
        }
        if (six || two || three) {
            uint32_t pair = get32(upper + g / 4 * PLANE) >> (g % 4 * 2) & 0x03030303;
            put32(pairs + 4 * g, get32(pairs + 4 * g) | pair << (s % 4 * 2));
        }
        if (five || three) {
            uint32_t bit = get32(upper + (three ? 2 * PLANE : 0)) >> g & 0x01010101;
            put32(bits + 4 * g, get32(bits + 4 * g) | bit << s);
        }
    }
}

/* Scale and min of sub-block s into the 12 bytes of gqa_k_scales. */
static void put_k_scales(uint8_t *scales, int s, uint8_t scale, uint8_t min) {
    if (s < 4) {
        scales[s] |= scale & 63;
        scales[4 + s] |= min & 63;
        return;
    }
    scales[4 + s] = (uint8_t)((scale & 15) | min << 4);
    scales[s - 4] |= (uint8_t)(scale >> 4 << 6);
    scales[s] |= (uint8_t)(min >> 4 << 6);
}

/* Six bits of signed scale j of q3_k, or of iq4_xs. */
static void put_signed_scale(int type, uint8_t *b, int j, uint8_t scale) {
    const int six = (scale + 32) & 63;
    if (type == GQA_TYPE_Q3_K) {
        b[96 + j % 8] |= (uint8_t)((six & 15) << (j / 8 * 4));
        b[104 + j % 4] |= (uint8_t)(six >> 4 << (j / 4 * 2));
    } else {
        b[4 + j / 2] |= (uint8_t)((six & 15) << (j % 2 * 4));
        b[2 + j / 4] |= (uint8_t)(six >> 4 << (j % 4 * 2));
    }
}

static void unpack_block_k(int type, const uint8_t *packed, uint8_t *b, int row,
                           size_t packed_bytes) {
    const uint8_t *tail = packed + 8 * packed_bytes + 2 * row;
    const int two = type == GQA_TYPE_Q2_K, three = type == GQA_TYPE_Q3_K;
    const int six = type == GQA_TYPE_Q6_K, xs = type == GQA_TYPE_IQ4_XS;
    memset(b, 0, (size_t)gqa_type_info_of(type)->bytes);
    memcpy(b + (six ? 208 : two ? 80 : three ? 108 : 0), tail, 2);
    if (!six && !three && !xs) memcpy(b + (two ? 82 : 2), tail + 32, 2);
    for (int s = 0; s < 8; s++, packed += packed_bytes) {
        const uint8_t *scales = packed + packed_bytes - (xs ? 16 : 32) + row;
        unpack_sub_block(type, packed, b, s, row);
        if (six || two) {
            b[(six ? 192 : 0) + 2 * s] = scales[0];
            b[(six ? 193 : 1) + 2 * s] = scales[16];
        } else if (xs) {
            put_signed_scale(type, b, s, scales[0]);
        } else if (three) {
            put_signed_scale(type, b, 2 * s, scales[0]);
            put_signed_scale(type, b, 2 * s + 1, scales[16]);
        } else {
            put_k_scales(b + 4, s, scales[0], scales[16]);
        }
    }
}

void unpack_panel(const gqa_matrix *w, int panel, const uint8_t *packed, uint8_t *dst) {
    const gqa_type_info *t = gqa_type_info_of(w->type);
    const size_t block = (size_t)t->block, bytes = (size_t)t->bytes, cols = (size_t)w->cols;
    const size_t row_bytes = cols / block * bytes, packed_bytes = gqa_packed_block_bytes(w->type);
    const size_t step = is_k_quant(w->type) ? 8 * packed_bytes + 64 : packed_bytes;
    const int rows = min_int(w->rows - panel * GQA_PANEL, GQA_PANEL);
    for (size_t k = 0; k < cols; k += block, dst += bytes) {
        uint8_t *b = dst;
        for (int r = 0; r < rows; r++, b += row_bytes) {
            if (!packed_bytes) memcpy(b, packed + (size_t)r * bytes, bytes);
            else if (is_k_quant(w->type)) unpack_block_k(w->type, packed, b, r, packed_bytes);
            else unpack_block_0(w->type, packed, b, r, packed_bytes);
        }
        packed += packed_bytes ? step : GQA_PANEL * bytes;
    }
}
