/* k_scales.c: the 6-bit scales of superblocks.
 *   q4_k, q5_k: eight scales and eight minima in 12 bytes
 *     byte  0..3   bits 0-5: scale 0..3      bits 6-7: upper two bits of scale 4..7
 *           4..7   bits 0-5: min 0..3        bits 6-7: upper two bits of min 4..7
 *           8..11  bits 0-3: lower bits of scale 4..7      bits 4-7: lower bits of min 4..7
 *   q3_k: sixteen scales, plus 32, in 12 bytes
 *     byte  0..7   bits 0-3: lower bits of scale 0..7      bits 4-7: those of scale 8..15
 *           8..11  bits 2k, 2k + 1: upper bits of scale 4k..4k + 3
 *   iq4_xs: eight scales, plus 32: upper bits in two bytes, two bits each, then lower, four each */
#include <string.h>

#include "tensor.h"
#include "transpose.h"

static gqa_words six_bits(gqa_words lower, gqa_words upper) {
    return (lower & 0x0F0F0F0F) | (upper & 0x03030303) << 4;
}

static void q45_k_scales(const gqa_words *in, gqa_words *out) {
    out[0] = in[0] & 0x3F3F3F3F;
    out[1] = six_bits(in[2], in[0] >> 6);
    out[2] = in[1] & 0x3F3F3F3F;
    out[3] = six_bits(in[2] >> 4, in[1] >> 6);
}

static void q3_k_scales(const gqa_words *in, gqa_words *out) {
    for (int i = 0; i < 4; i++) {
        gqa_words x = six_bits(in[i % 2] >> (i / 2 * 4), in[2] >> (2 * i)) ^ 0x20202020;
        gqa_words sign = x & 0x20202020;
        out[i] = x | sign << 1 | sign << 2; /* less 32, in each byte */
    }
}

static void iq4_xs_scales(const uint8_t *b, uint8_t *scales) {
    for (int j = 0; j < 8; j++) {
        int low = b[4 + j / 2] >> (j % 2 * 4) & 15, high = b[2 + j / 4] >> (j % 4 * 2) & 3;
        scales[j] = (uint8_t)((low | high << 4) - 32);
    }
}

void gqa_k_scales(int type, const uint8_t *b, size_t row_bytes, uint8_t scales[4][16]) {
    const int three = type == GQA_TYPE_Q3_K, at = type == GQA_TYPE_Q6_K ? 192 : 0;
    uint8_t copy[4][16]; /* a block of q3_k ends 14 bytes after its scales begin */
    gqa_words in[4], out[4];
    if (type == GQA_TYPE_Q2_K || type == GQA_TYPE_Q6_K) {
        for (int row = 0; row < 4; row++, b += row_bytes) memcpy(scales[row], b + at, 16);
    } else if (type == GQA_TYPE_IQ4_XS) {
        for (int row = 0; row < 4; row++, b += row_bytes) iq4_xs_scales(b, scales[row]);
    } else {
        for (int row = 0; row < 4 && three; row++) memcpy(copy[row], b + row * row_bytes + 96, 12);
        gqa_transpose_words(in, sizeof *in, three ? copy[0] : b + 4, three ? 16 : row_bytes);
        if (three) q3_k_scales(in, out);
        else q45_k_scales(in, out);
        gqa_transpose_words(scales, 16, out, sizeof *out);
    }
}
