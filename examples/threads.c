/* threads.c: the library computes on the program's own threads: a small pool behind run_parallel.
 *     ./threads MODEL */
#include <pthread.h>
#include <stdio.h>

#include "../model.h"

enum { WORKERS = 3 };

typedef struct pool {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*fn)(void *arg, int thread); /* the job: fn(arg, 0) to fn(arg, n - 1) */
    void *arg;
    int n, next, left;       /* calls of the job; the next to begin; those not ended */
    int closing;
} pool;

/* Makes calls of jobs until that field of the pool has that value. The lock is held. */
static void work_until(pool *p, const int *field, int value) {
    while (*field != value) {
        if (p->next == p->n) {
            pthread_cond_wait(&p->changed, &p->lock);
            continue;
        }
        int thread = p->next++;
        pthread_mutex_unlock(&p->lock);
        p->fn(p->arg, thread);
        pthread_mutex_lock(&p->lock);
        if (--p->left == 0) pthread_cond_broadcast(&p->changed);
    }
}

static void *work(void *user) {
    pool *p = user;
    pthread_mutex_lock(&p->lock);
    work_until(p, &p->closing, 1);
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* A gqa_run_parallel. The caller works too. */
static void run_on_pool(void *user, int n, void (*fn)(void *arg, int thread), void *arg) {
    pool *p = user;
    pthread_mutex_lock(&p->lock);
    p->fn = fn;
    p->arg = arg;
    p->n = p->left = n;
    p->next = 0;
    pthread_cond_broadcast(&p->changed);
    work_until(p, &p->left, 0);
    pthread_mutex_unlock(&p->lock);
}

static int print(void *user, const char *text, size_t len) {
    return fwrite(text, 1, len, user) != len;
}

int main(int argc, char **argv) {
    gqa_error err = {0};
    pool p = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    pthread_t threads[WORKERS];
    int started = 0;
    while (started < WORKERS && !pthread_create(&threads[started], NULL, work, &p)) started++;
    gqa_session_options on_pool = {.n_threads = 1 + started, .run_parallel = run_on_pool,
                                   .run_user = &p};
    gqa_generate_options opt = {.max_tokens = 60};
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    gqa_session *session = model ? gqa_session_new(model, &on_pool, &err) : NULL;
    gqa_sampler *sampler = session ? gqa_sampler_new(NULL, &err) : NULL;
    if (sampler) gqa_generate(session, sampler, "The dog said", &opt, print, stdout, NULL, &err);
    puts(err.code ? err.message : "");
    gqa_sampler_free(sampler);
    gqa_session_free(session);
    gqa_model_close(model);
    pthread_mutex_lock(&p.lock);
    p.closing = 1;
    pthread_cond_broadcast(&p.changed);
    pthread_mutex_unlock(&p.lock);
    for (int i = 0; i < started; i++) pthread_join(threads[i], NULL);
    return err.code != 0;
}
