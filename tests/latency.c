/* latency.c: how soon a cancel is obeyed on a model of the 1 B shape, in milliseconds (make
 * latency): while the weights are repacked, in the prefill of a long prompt, and in decoding. Not
 * part of make test: it measures time. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../formats/formats.h"
#include "../convert/convert.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

typedef struct stopper {
    gqa_session *session;
    double after, asked; /* milliseconds from the start; the moment it asked */
} stopper;
static void *stop(void *arg) {
    stopper *s = arg;
    long ns = (long)(s->after * 1e6);
    nanosleep(&(struct timespec){ns / 1000000000, ns % 1000000000}, NULL);
    s->asked = now();
    gqa_session_cancel(s->session);
    return NULL;
}

/* From asking to having control again. */
static double cancel_eval(gqa_session *s, const int32_t *tokens, int n, double after) {
    stopper who = {s, after, 0};
    pthread_t thread;
    gqa_error err = {0};
    if (pthread_create(&thread, NULL, stop, &who)) return -1;
    int status = gqa_session_eval(s, tokens, n, &err);
    while (n == 1 && !status) status = gqa_session_eval(s, tokens, 1, &err);
    double end = now();
    pthread_join(thread, NULL);
    gqa_session_rewind(s, 0, NULL);
    return status == GQA_ERR_CANCELLED ? end - who.asked : -1;
}

typedef struct loading {
    double last, longest, asked, give_up;
} loading;
static int on_progress(void *user, double done) {
    loading *l = user;
    double t = now();
    if (l->last > 0 && t - l->last > l->longest) l->longest = t - l->last;
    l->last = t;
    if (done < l->give_up) return 0;
    if (l->asked == 0) l->asked = now();
    return 1;
}

static int fail(const char *text) {
    printf("latency: %s\n", text);
    return -1;
}

/* Random weights of the 1 B shape in a file. */
static int write_model(const char *path, gqa_error *err) {
    const gqa_config shape = {
        .dim = 2048, .n_layers = 22, .n_heads = 32, .n_kv_heads = 4, .head_dim = 64,
        .ffn_dim = 5632, .vocab_size = 32000, .context_length = 4096,
    };
    gqa_checkpoint c = {0};
    gqa_convert_options o = {.kv_heads = shape.n_kv_heads, .type = GQA_TYPE_Q8_0};
    int status = gqa_checkpoint_random(&c, &shape, GQA_TYPE_Q8_0, 1, err);
    if (!status) status = gqa_convert(&c, &o, path, NULL, NULL, err);
    gqa_checkpoint_free(&c);
    return status;
}

/* The longest wait of four loads that are given up at a fifth of the way, two fifths, ... */
static double cancel_loading(const char *path) {
    double worst = 0;
    for (int i = 0; i < 4; i++) {
        gqa_error err = {0};
        loading l = {.give_up = 0.2 * (i + 1)};
        gqa_model_options options = {.on_progress = on_progress, .user = &l};
        gqa_model *m = gqa_model_open(path, &options, &err);
        if (m || err.code != GQA_ERR_CANCELLED) return fail("loading was not cancelled");
        double took = now() - l.asked + l.longest; /* at worst asked just after on_progress */
        if (took > worst) worst = took;
    }
    return worst;
}

int main(int argc, char **argv) {
    enum { PROMPT = 2048 };
    static int32_t prompt[PROMPT];
    const char *path = argc > 1 ? argv[1] : "build/latency.gguf";
    gqa_error err = {0};
    double prefill = 0, decode = 0;
    if (write_model(path, &err)) return fail(err.message);
    double load = cancel_loading(path);
    gqa_model *m = gqa_model_open(path, NULL, &err);
    remove(path);
    gqa_session *s = m ? gqa_session_new(m, NULL, &err) : NULL;
    if (!s) return fail(err.message);
    for (int i = 0; i < 8; i++) {
        double one = cancel_eval(s, prompt, PROMPT, 300 + 61 * i);
        double other = cancel_eval(s, prompt, 1, 150 + 17 * i);
        if (one < 0 || other < 0) return fail("an evaluation was not cancelled");
        if (one > prefill) prefill = one;
        if (other > decode) decode = other;
    }
    gqa_session_free(s);
    gqa_model_close(m);
    printf("cancelled after at most: loading %.1f ms, prefill %.1f ms, decoding %.1f ms\n",
           load, prefill, decode);
    return load < 0 || load > 50 || prefill > 50 || decode > 50;
}
