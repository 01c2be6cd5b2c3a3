/* web.c: the library as a web page calls it, through numbers and pointers into the module's memory:
 * a model with one session, and its text a few tokens at a time. The page has one thread, so
 * nothing here waits: to cancel is not to ask for more. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../convert/convert.h"
#include "../formats/formats.h"

typedef struct web {
    uint8_t *image;      /* what the model was opened from, if it was converted */
    gqa_model *model;
    gqa_session *session;
    gqa_sampler *sampler;
    gqa_error err;
    int is_over;         /* the context is full, and the token that did not fit is in the text */
    char *text;          /* of the last web_next, or web_describe */
    size_t len, capacity;
} web;

web *web_open(const void *data, size_t size, int kv_heads, int context);
const char *web_error(const web *w);
const char *web_describe(web *w);
int web_start(web *w, const char *prompt, int size, float temperature, int seed);
int web_next(web *w, int n, int ignore_end);
const char *web_text(const web *w);
int web_size(const web *w);
double web_kv_bytes(const web *w, int positions);
void web_close(web *w);

static int is_all_q5_0(const gqa_checkpoint *c) {
    int matrices = 0, others = 0;
    for (int i = 0; i < c->n_tensors; i++) {
        matrices += c->tensors[i].n_dims > 1;
        others += c->tensors[i].n_dims > 1 && c->tensors[i].type != GQA_TYPE_Q5_0;
    }
    return matrices && !others;
}

/* The model as a GGUF file in memory, if it has to be another: with that number of KV heads; of
 * q5_0 as q8_0, which are the same numbers in more bytes, at twice the speed: here it is not memory
 * that limits. The size; 0: as it is. */
static size_t convert_for_page(web *w, const void *data, size_t size, int kv_heads) {
    gqa_checkpoint c = {0};
    gqa_convert_options o = {.type = -1, .pool = GQA_POOL_ALIGNED, .n_threads = 1};
    size_t changed = 0;
    if (!gqa_checkpoint_read(&c, data, size, "memory", &w->err)) {
        if (is_all_q5_0(&c)) o.type = GQA_TYPE_Q8_0;
        if (kv_heads)
            o.kv_heads = kv_heads < c.config.n_kv_heads ? kv_heads : c.config.n_heads;
        if (kv_heads || o.type >= 0)
            gqa_convert(&c, &o, NULL, &w->image, &changed, &w->err);
    }
    gqa_checkpoint_free(&c);
    return changed;
}

/* data[size]: a GGUF file, which must stay. kv_heads 0: as in the file; fewer: pooled; else one for
 * each query head. web_error says what failed. */
web *web_open(const void *data, size_t size, int kv_heads, int context) {
    gqa_session_options so = {.context = context, .n_threads = 1};
    gqa_model_options mo = {.n_threads = 1};
    web *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->capacity = 1024;
    w->text = calloc(1, w->capacity);
    if (!w->text) gqa_fail(&w->err, GQA_ERR_MEMORY, "no memory for text");
    size_t changed = convert_for_page(w, data, size, kv_heads);
    if (!w->err.code)
        w->model = gqa_model_from_memory(w->image ? w->image : data, w->image ? changed : size,
                                         &mo, &w->err);
    if (w->model) w->session = gqa_session_new(w->model, &so, &w->err);
    return w;
}

void web_close(web *w) {
    gqa_sampler_free(w->sampler);
    gqa_session_free(w->session);
    gqa_model_close(w->model);
    free(w->image);
    free(w->text);
    free(w);
}

const char *web_error(const web *w) { return w->err.code ? w->err.message : ""; }
const char *web_text(const web *w) { return w->text; }
int web_size(const web *w) { return (int)w->len; } /* of web_next's text, in bytes */
double web_kv_bytes(const web *w, int positions) {
    return (double)gqa_model_kv_bytes(w->model, GQA_TYPE_F16, positions);
}

/* As JSON. */
const char *web_describe(web *w) {
    const gqa_config *c = gqa_model_config(w->model);
    const gqa_model_stats *s = gqa_model_get_stats(w->model);
    snprintf(w->text, w->capacity,
             "{\"version\":\"%s\",\"isa\":\"%s\",\"params\":%.0f,\"layers\":%d,\"dim\":%d,"
             "\"heads\":%d,\"kvHeads\":%d,\"headDim\":%d,\"context\":%d}",
             gqa_version(), s->isa, (double)s->n_params, c->n_layers, c->dim, c->n_heads,
             c->n_kv_heads, c->head_dim, c->context_length);
    return w->text;
}

/* Begins a text with prompt[size], which is evaluated. 0, or negative: see web_error. */
int web_start(web *w, const char *prompt, int size, float temperature, int seed) {
    gqa_sampler_options how = {.temperature = temperature, .seed = (uint64_t)seed};
    int32_t *tokens = NULL;
    w->err.code = GQA_OK;
    w->is_over = 0;
    gqa_sampler_free(w->sampler);
    w->sampler = gqa_sampler_new(&how, &w->err);
    if (!w->sampler || gqa_session_rewind(w->session, 0, &w->err)) return w->err.code;
    int n = gqa_tokenize_new(w->model, prompt, (size_t)size, GQA_TOKENIZE_BOS, &tokens, &w->err);
    if (n > 0) gqa_session_eval(w->session, tokens, n, &w->err);
    gqa_free(tokens);
    return w->err.code;
}

static int append_text(void *user, const char *text, size_t len) {
    web *w = user;
    if (len >= w->capacity - w->len) {
        size_t capacity = 2 * (w->len + len + 1);
        char *larger = realloc(w->text, capacity);
        if (!larger) return gqa_fail(&w->err, GQA_ERR_MEMORY, "no memory for text");
        w->text = larger;
        w->capacity = capacity;
    }
    memcpy(w->text + w->len, text, len);
    w->len += len;
    w->text[w->len] = 0;
    return 0;
}

/* Generates n more tokens; their text is web_text. How many: fewer where the text ends, then 0;
 * negative: see web_error. */
int web_next(web *w, int n, int ignore_end) {
    gqa_generate_options opt = {.max_tokens = n, .ignore_end = ignore_end};
    gqa_generate_result result = {0};
    w->len = 0;
    w->text[0] = 0;
    if (w->is_over || n < 1) return 0;
    w->is_over = gqa_session_position(w->session) == gqa_session_context(w->session);
    if (gqa_generate_tokens(w->session, w->sampler, NULL, 0, &opt, append_text, w, &result,
                            &w->err))
        return w->err.code;
    w->is_over |= result.stop != GQA_STOP_LENGTH;
    if (w->err.code) return w->err.code;
    return result.generated_tokens;
}
