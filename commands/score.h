/* score.h: how well models predict a text, by the protocol of llama.cpp: the text is cut into
 * chunks of N tokens, the first token of each is replaced by BOS; a chunk is evaluated with an
 * empty cache, and the tokens of its second half are scored. Models are compared at every position
 * of a chunk. */
#ifndef GQA_SCORE_H
#define GQA_SCORE_H

#include "command.h"

/* How far a model's next-token distributions are from a reference's, over n positions. The errors
 * are standard errors of a mean, as if positions were independent. */
typedef struct divergence {
    double mean, error;     /* of KL(reference || model), in nats */
    double p99, largest;    /* its 99th percentile, its maximum */
    double same_top, same_top_error; /* percent of positions where both have the same likeliest */
    int n;
} divergence;
/* KL(p || q) of the distributions that logits p[n] and q[n] stand for, at least 0. */
double score_kl(const float *p, const float *q, int n);
/* Of kl[n], which it sorts; same_top: positions with the same likeliest token. */
divergence score_divergence(double *kl, int n, int same_top);

/* loss and squares are sums over the tokens scored, natural logarithm. */
typedef struct score {
    double loss, squares;   /* of negative log-likelihoods */
    long n;
    long bytes;             /* of text that those tokens are */
    int same_top[2];        /* positions whose likeliest token is that of a reference */
    divergence from[2];     /* each reference, at every position of the chunks */
} score;
double score_perplexity(const score *s);
double score_error(const score *s);       /* standard error of the perplexity */
/* Bits a byte of text: comparable between vocabularies. NaN of no bytes. */
double score_bits(const score *s);
double score_bits_error(const score *s);

/* "about 0:12 left ", when `done` of `all` steps have taken the time since start. */
void print_time_left(double start, int done, int all);

/* Scores tokens[n_chunks * chunk] with each of sessions[n], whose contexts hold a chunk. The first
 * n_references, 0 to 2, are what the others are compared with. progress: begins the progress line
 * on stderr; NULL: none. Stops early once a signal is held. 0, or an exit code after printing an
 * error. */
int score_chunks(gqa_session **sessions, int n, int n_references, const int32_t *tokens,
                 int n_chunks, int chunk, score *scores, const char *progress);

/* A text to score, and how it is read: as llama.cpp reads it, unless an option says otherwise. */
typedef struct score_text {
    const char *file;
    char *text;             /* free() it */
    size_t len;
    int chunk, max_chunks;  /* tokens a chunk, 0: score_choose_chunk; chunks, 0: all */
    int documents, special;
    int warns_of_marks;     /* it holds marks of documents, which will be letters */
} score_text;
#define SCORE_OPTIONS(t) \
    {"-c N", OPT_INT, &(t).chunk, 4, 1 << 20, \
     "tokens per chunk of the text (default: the model's\ncontext, at most 512)"}, \
    {"--chunks K", OPT_INT, &(t).max_chunks, 0, 1 << 30, "at most K chunks (default 0: all)"}, \
    {"--documents", OPT_FLAG, &(t).documents, 0, 0, \
     "end documents at <|endoftext|> and trim them, as training\ndoes (default: letters)"}, \
    {"--special", OPT_FLAG, &(t).special, 0, 0, \
     "text such as <|im_end|> becomes that special token"}

/* Reads t->file. quiet: without a warning later. 0, or an exit code after printing an error. */
int score_read(score_text *t, int quiet);
/* Sets t->chunk if the user has not; warns of one above the context trained for, unless quiet, and
 * of what score_read found. */
void score_choose_chunk(score_text *t, const gqa_config *config, int quiet);
/* The tokens of a text, for score_chunks: at least n_chunks of them whole, each with BOS first if
 * the model wants it; for gqa_free(). No more of the text is tokenized than they need. NULL after
 * printing an error. */
int32_t *score_tokens(const gqa_model *model, const score_text *t, int *n_chunks);

#endif
