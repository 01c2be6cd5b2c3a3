/* advice.h: what a model needs at a context, and what would change it. */
#ifndef GQA_ADVICE_H
#define GQA_ADVICE_H

#include "json.h"
#include "../model.h"

typedef struct advice {
    const gqa_model *model;
    double memory;           /* bytes */
    int context, batch;      /* positions, sequences */
} advice;

void advice_text(const advice *a);
void advice_json(const advice *a, json_writer *j);

#endif
