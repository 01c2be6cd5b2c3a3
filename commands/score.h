/* score.h: how well models predict a text, by the protocol of llama.cpp: the text is cut into
 * chunks of N tokens, the first token of each is replaced by BOS; a chunk is evaluated with an
 * empty cache, and the tokens of its second half are scored. */
#ifndef GQA_SCORE_H
#define GQA_SCORE_H

#include "command.h"

/* Sums over the tokens scored, natural logarithm. */
typedef struct score {
    double loss, squares;   /* of negative log-likelihoods */
    double divergence;      /* KL(first session || this session) of the next token's distribution */
    long same_top;          /* tokens for which both have the same likeliest token */
    long n;
} score;
double score_perplexity(const score *s);
double score_error(const score *s);       /* standard error of the perplexity */
double score_divergence(const score *s);  /* mean */

/* Scores tokens[n_chunks * chunk] with each of sessions[n], whose contexts hold a chunk. Sessions
 * after the first are compared with it. progress: begins the progress line on stderr; NULL: none.
 * 0, or an exit code after printing an error. */
int score_chunks(gqa_session **sessions, int n, int32_t *tokens, int n_chunks, int chunk,
                 score *scores, const char *progress);

/* The tokens of a text, for score_chunks: whole chunks of it, at most max_chunks (0: all), for
 * gqa_free(). NULL after printing an error. */
int32_t *score_tokens(const gqa_model *model, const char *text, size_t len, int chunk,
                      int max_chunks, int *n_chunks);

#endif
