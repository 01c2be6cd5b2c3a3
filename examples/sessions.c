/* sessions.c: one model, several threads, a session each: three characters speak at once and do not disturb each other.
 *     ./sessions MODEL */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "../model.h"

enum { SPEAKERS = 3 };

typedef struct speaker {
    const gqa_model *model;  /* shared: a model never changes */
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
    gqa_sampler *sampler = gqa_sampler_new(NULL, &s->err);
    if (session && sampler) gqa_generate(session, sampler, s->prompt, &opt, collect, s, NULL, &s->err);
    gqa_sampler_free(sampler);
    gqa_session_free(session);
    return NULL;
}

int main(int argc, char **argv) {
    gqa_error err = {0};
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    if (!model) return fprintf(stderr, "%s\n", err.message), 1;
    speaker all[SPEAKERS] = {{.prompt = "The dog said"}, {.prompt = "The cat said"}, {.prompt = "The bird said"}};
    pthread_t threads[SPEAKERS];
    int started = 0, failed = 0;
    for (int i = 0; i < SPEAKERS; i++) {
        all[i].model = model;
        if (pthread_create(&threads[i], NULL, speak, &all[i])) break;
        started++;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        if (all[i].err.code) failed = 1, fprintf(stderr, "%s\n", all[i].err.message);
        else printf("%d: %s%.*s\n", i + 1, all[i].prompt, (int)all[i].len, all[i].text);
    }
    gqa_model_close(model);
    return failed || started < SPEAKERS;
}
