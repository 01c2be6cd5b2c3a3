/* unpack.h: the inverse of gqa_pack_panel (kernels/pack.c), for the round-trip test. */
#ifndef GQA_UNPACK_H
#define GQA_UNPACK_H

#include "../kernels/kernels.h"

/* Writes the raw blocks of the panel's rows (those that exist) to dst, row after row. */
void unpack_panel(const gqa_matrix *w, int panel, const uint8_t *packed, uint8_t *dst);

#endif
