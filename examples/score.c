/* score.c: how likely a model finds each of several texts: the sum of its tokens'
 * log-probabilities.
 *     ./score MODEL TEXT TEXT ... */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../model.h"

/* Natural logarithm of the probability of the text's tokens; 0 after filling *err. */
static double score(gqa_session *s, const char *text, int *n_tokens, gqa_error *err) {
    const gqa_model *model = gqa_session_model(s);
    size_t vocab = (size_t)gqa_model_config(model)->vocab_size;
    double sum = 0;
    int32_t *tokens;
    int n = gqa_tokenize_new(model, text, strlen(text), GQA_TOKENIZE_BOS, &tokens, err);
    float *logits = n > 0 ? malloc(sizeof(float) * vocab * (size_t)n) : NULL;
    gqa_session_rewind(s, 0, NULL);
    if (logits && gqa_session_eval_all(s, tokens, n, logits, err) == 0) {
        for (int i = 0; i + 1 < n; i++) { /* the logits after token i are those of token i + 1 */
            const float *next = logits + (size_t)i * vocab;
            sum += (double)next[tokens[i + 1]] - gqa_log_sum_exp(next, (int)vocab);
        }
        *n_tokens = n - 1;
    }
    free(logits);
    gqa_free(tokens);
    return sum;
}

int main(int argc, char **argv) {
    gqa_error err = {0};
    gqa_model *model = gqa_model_open(argc > 1 ? argv[1] : "model.gguf", NULL, &err);
    gqa_session *session = model ? gqa_session_new(model, NULL, &err) : NULL;
    for (int i = 2; session && i < argc; i++) {
        int n = 0;
        double sum = score(session, argv[i], &n, &err);
        if (err.code) break;
        printf("%10.3f  (%d tokens)  %s\n", sum, n, argv[i]);
    }
    if (err.code) fprintf(stderr, "%s\n", err.message);
    gqa_session_free(session);
    gqa_model_close(model);
    return err.code != 0;
}
