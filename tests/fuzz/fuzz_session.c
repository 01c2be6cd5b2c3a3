/* fuzz_session.c: any bytes as a saved session: refused with the session empty, or loaded and usable. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static gqa_model *m;
    static gqa_session *s;
    static char path[64];
    gqa_error err = {0};
    if (!m) {
        gqa_config c = {.dim = 32, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 16, .ffn_dim = 32, .vocab_size = 40, .context_length = 64};
        gqa_session_options so = {.context = 64, .n_threads = 1};
        m = gqa_model_random(&c, GQA_TYPE_F32, 1, NULL, &err);
        s = m ? gqa_session_new(m, &so, &err) : NULL;
        if (!s) abort();
        snprintf(path, sizeof path, "/dev/shm/gqa-fuzz-%ld", (long)getpid());
    }
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size) abort();
    fclose(f);
    int32_t token = 3;
    if (gqa_session_load(s, path, &err) == 0) gqa_session_eval(s, &token, 1, &err);
    else if (gqa_session_position(s) != 0) abort();
    gqa_session_rewind(s, 0);
    unlink(path);
    return 0;
}
