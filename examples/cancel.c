/* cancel.c: generation runs in a thread of its own; the main thread stops it after a while.
 *     ./cancel MODEL [MILLISECONDS] */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "../model.h"

typedef struct job {
    gqa_session *session;
    gqa_sampler *sampler;
    gqa_generate_result result;
    gqa_error err;
} job;

static int print(void *user, const char *text, size_t len) {
    (void)user;
    fwrite(text, 1, len, stdout);
    fflush(stdout);
    return 0;
}

static void *generate(void *arg) {
    job *j = arg;
    gqa_generate_options opt = {.ignore_end = 1}; /* until the context is full, or cancelled */
    gqa_generate(j->session, j->sampler, "Once upon a time", &opt, print, NULL, &j->result,
                 &j->err);
    return NULL;
}

int main(int argc, char **argv) {
    job j = {0};
    long ms = argc > 2 ? atol(argv[2]) : 50;
    gqa_sampler_options how = {.temperature = 0.8f, .top_p = 0.95f, .seed = 1};
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &j.err);
    j.session = model ? gqa_session_new(model, NULL, &j.err) : NULL;
    j.sampler = j.session ? gqa_sampler_new(&how, &j.err) : NULL;
    pthread_t thread;
    if (j.sampler && pthread_create(&thread, NULL, generate, &j) == 0) {
        nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
        gqa_session_cancel(j.session); /* safe from any thread, and from a signal handler */
        pthread_join(thread, NULL);
        const char *how_ended = j.result.stop == GQA_STOP_CALLER ? "cancelled" : "ended";
        fprintf(stderr, "\n[%s after %d tokens]\n", how_ended, j.result.generated_tokens);
    }
    if (j.err.code) fprintf(stderr, "%s\n", j.err.message);
    gqa_sampler_free(j.sampler);
    gqa_session_free(j.session);
    gqa_model_close(model);
    return j.err.code != 0;
}
