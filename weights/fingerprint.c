/* fingerprint.c: a hash that tells models apart, for files that belong to one. */
#include <string.h>

#include "../base/hash.h"
#include "model_internal.h"

uint64_t gqa_model_fingerprint(const gqa_model *m) {
    uint64_t h = 0xCBF29CE484222325u;
    for (int i = 0; i < m->file.n_tensors; i++) {
        const gqa_tensor *t = &m->file.tensors[i];
        h = gqa_hash(h, t->name, strlen(t->name));
        h = gqa_hash(h, &t->type, sizeof t->type);
        h = gqa_hash(h, t->dims, sizeof t->dims);
        size_t sample = min_size(t->size, 64);
        h = gqa_hash(h, t->data + (t->size - sample) / 2, sample);
    }
    h = gqa_hash(h, &m->config.rope_theta, sizeof m->config.rope_theta);
    return h;
}
