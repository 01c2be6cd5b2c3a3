/* fuzz_convert.c: any bytes as a checkpoint that is converted: to fewer heads by every pooling, to
 * other types, or both. What comes out is opened (a damaged vocabulary is copied as it is, and
 * refused then). The first byte chooses. */
#include <stdlib.h>
#include <string.h>

#include "../../convert/convert.h"
#include "../../formats/formats.h"

/* Keys and values for GQA_POOL_ALIGNED, of 4 tokens; any numbers do. */
static int make_samples(gqa_kv_samples *s, const gqa_config *c) {
    size_t head_dim = (size_t)c->head_dim, kv_dim = (size_t)c->n_kv_heads * head_dim;
    *s = (gqa_kv_samples){(size_t)c->n_layers, 4, head_dim, kv_dim, NULL, NULL};
    size_t n = (size_t)c->n_layers * s->n * s->kv_dim;
    s->k = calloc(n, sizeof *s->k);
    s->v = calloc(n, sizeof *s->v);
    for (size_t i = 0; s->k && s->v && i < n; i++) {
        s->k[i] = (float)(i % 7) - 3;
        s->v[i] = (float)(i % 5) - 2;
    }
    return s->k && s->v;
}

static void convert(const gqa_checkpoint *c, unsigned choice) {
    static const int types[] = {-1, GQA_TYPE_Q8_0, GQA_TYPE_Q4_K, GQA_TYPE_F16};
    gqa_convert_options o = {.type = types[choice & 3], .pool = (gqa_pool)(choice >> 2 & 7)};
    gqa_kv_samples samples = {0};
    gqa_error err = {0};
    uint8_t *out = NULL;
    size_t size = 0;
    if (o.pool > GQA_POOL_ALIGNED) o.pool = GQA_POOL_MEAN;
    if (choice & 32) o.kv_heads = 1;
    o.keep_heads = choice >> 6 & 1;
    if (choice & 128 && make_samples(&samples, &c->config)) o.samples = &samples;
    if (gqa_convert(c, &o, NULL, &out, &size, &err) == 0) {
        gqa_model_close(gqa_model_from_memory(out, size, NULL, &err));
    } else if (!err.code || !err.message[0]) {
        abort();
    }
    gqa_kv_samples_free(&samples);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    gqa_checkpoint c;
    if (size < 2) return 0;
    uint8_t *copy = malloc(size - 1); /* exact, so that a read past the end is seen */
    if (!copy) return 0;
    memcpy(copy, data + 1, size - 1);
    if (gqa_checkpoint_read(&c, copy, size - 1, "fuzz", NULL) == 0) {
        uint64_t values = 0;
        for (int i = 0; i < c.n_tensors; i++) values += c.tensors[i].size;
        if (values < 1 << 20) convert(&c, data[0]);
        gqa_checkpoint_free(&c);
    }
    free(copy);
    return 0;
}
