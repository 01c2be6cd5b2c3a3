/* sessions.c: one model, several threads, a session each: three characters speak at once and do
 * not disturb each other.
 *     ./sessions MODEL */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "../model.h"

enum { SPEAKERS = 3 };

typedef struct speaker {
    const gqa_model *model; /* shared: a model never changes */
    const char *prompt;
    char text[2048];
    size_t len;
    gqa_error err;
} speaker;

static int collect(void *user, const char *text, size_t len) {
    speaker *s = user;
    if (s->len + len >= sizeof s->text) return 1;
    memcpy(s->text + s->len, text, len);
    s->len += len;
    return 0;
}

static void *speak(void *arg) {
    speaker *s = arg;
    gqa_session_options one = {.n_threads = 1};
    gqa_generate_options opt = {.max_tokens = 60};
    gqa_session *session = gqa_session_new(s->model, &one, &s->err);
    gqa_sampler *sampler = session ? gqa_sampler_new(NULL, &s->err) : NULL;
    if (sampler) gqa_generate(session, sampler, s->prompt, &opt, collect, s, NULL, &s->err);
    gqa_sampler_free(sampler);
    gqa_session_free(session);
    return NULL;
}

int main(int argc, char **argv) {
    static const char *const prompts[SPEAKERS] = {"The dog said", "The cat said", "The bird said"};
    gqa_error err = {0};
    speaker all[SPEAKERS] = {0};
    pthread_t threads[SPEAKERS];
    int started = 0;
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    for (int i = 0; model && i < SPEAKERS; i++) {
        all[i].model = model;
        all[i].prompt = prompts[i];
        if (pthread_create(&threads[i], NULL, speak, &all[i])) break;
        started++;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        if (all[i].err.code) err = all[i].err;
        printf("%d: %s%.*s\n", i + 1, prompts[i], (int)all[i].len, all[i].text);
    }
    if (err.code) fprintf(stderr, "%s\n", err.message);
    gqa_model_close(model);
    return err.code || started < SPEAKERS;
}
