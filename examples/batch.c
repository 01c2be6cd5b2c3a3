/* batch.c: several sequences decoded together, so that the weights are read once for all; each
 * begins some steps after the one before, and its prompt is evaluated beside them. Each line is a
 * sequence, its tokens by name with the probability that the model gave them.
 *     ./batch MODEL */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../model.h"

enum { N = 3, STEPS = 12, LATER = 2, MAX_PROMPT = 64 };
static const char *const prompts[N] = {"The dog said", "The cat", "A bird"};

/* The likeliest token, appended with its probability to the line. */
static int32_t choose(const gqa_session *s, float *log_p, char *line, size_t size) {
    const gqa_model *model = gqa_session_model(s);
    int vocab = gqa_vocab_size(model);
    int32_t best = 0;
    char name[64];
    gqa_log_softmax(gqa_session_logits(s), vocab, log_p);
    for (int32_t i = 1; i < vocab; i++)
        if (log_p[i] > log_p[best]) best = i;
    int n = gqa_token_name(model, best, name, sizeof name);
    if (n > (int)sizeof name) n = sizeof name;
    size_t len = strlen(line);
    snprintf(line + len, size - len, " %.*s (%.2f)", n, name, exp((double)log_p[best]));
    return best;
}

static int decode(gqa_session **sessions, float *log_p, gqa_error *err) {
    const gqa_model *model = gqa_session_model(sessions[0]);
    char lines[N][1024] = {""};
    for (int step = 0; step < STEPS; step++) {
        int32_t tokens[N * MAX_PROMPT];
        int counts[N], n = 0, total = 0;
        for (; n < N && n * LATER <= step; total += counts[n++]) {
            int32_t *next = tokens + total;
            counts[n] = 1;
            if (step > n * LATER) *next = choose(sessions[n], log_p, lines[n], sizeof lines[n]);
            else counts[n] = gqa_tokenize(model, prompts[n], strlen(prompts[n]), GQA_TOKENIZE_BOS,
                                          next, MAX_PROMPT, err);
            if (counts[n] < 0) return -1;
        }
        if (gqa_sessions_eval_many(sessions, n, tokens, counts, err)) return -1;
    }
    for (int i = 0; i < N; i++) printf("%s:%s\n", prompts[i], lines[i]);
    return 0;
}

int main(int argc, char **argv) {
    gqa_error err = {0};
    gqa_session *sessions[N] = {NULL};
    int ready = 0;
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    gqa_workspace *shared = model ? gqa_workspace_new(model, NULL, &err) : NULL;
    gqa_session_options opt = {.workspace = shared};
    float *log_p = shared ? malloc(sizeof(float) * (size_t)gqa_vocab_size(model)) : NULL;
    while (log_p && ready < N) {
        sessions[ready] = gqa_session_new(model, &opt, &err);
        if (!sessions[ready]) break;
        ready++;
    }
    if (ready == N) decode(sessions, log_p, &err);
    if (err.code) fprintf(stderr, "%s\n", err.message);
    free(log_p);
    for (int i = 0; i < N; i++) gqa_session_free(sessions[i]);
    gqa_workspace_free(shared);
    gqa_model_close(model);
    return err.code || ready < N;
}
