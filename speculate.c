/* speculate.c: several tokens from one pass (Leviathan et al. 2022, arXiv 2211.17192; without its
 * rejection sampling: a proposal is kept when it is the very token that the sampler takes).
 *
 * Proposals come from a session over a small model, or from the text itself (prompt lookup
 * decoding, Saxena 2023). How many a pass evaluates follows from measured times and from the share
 * of proposals accepted so far; times never decide what is generated, because a pass of n rows
 * gives the bits of n passes. What speculation may lose is bounded: see `credit`. */
#include <stdlib.h>

#include "session/session_internal.h"

enum {
    SIZES = 5,               /* passes of 1, 2, 4, 8, 16 rows */
    CREDIT_PASSES = 6,
    PLAIN_EVERY = 32, PLAIN_FIRST = 4, /* passes 4, 5, 36, 37, ... have one row, to be timed */
    MIN_MATCH = 2, LONG_MATCH = 4, MAX_MATCH = 16, /* tokens that occurred before */
    DRAFT = LONG_MATCH - MIN_MATCH + 1, SOURCES /* of proposals: matches by length, or the draft */
};
_Static_assert(1 << (SIZES - 1) == GQA_DECODE_ORDER, "the largest pass");

struct gqa_speculation {
    gqa_session *session, *draft;
    int lookup;
    float *logits;           /* [GQA_DECODE_ORDER, vocab_size] */
    double share[SOURCES];   /* of recent proposals, accepted */
    double seconds[SIZES];   /* of a recent pass; 0: unknown */
    int is_steady;           /* seconds[0] is not of the first pass, which may take twice as long */
    double draft_seconds;    /* of a proposal of the draft */
    double credit;           /* seconds that proposals may cost: one pass at first; they add what
                              * they save, and all decoding 1%, up to CREDIT_PASSES passes */
    int source, n_proposals, n_accepted; /* of the last pass */
    double spent;            /* of the last pass, and on its proposals */
    double total_seconds;
    int total_tokens, total_proposals, total_accepted;
};

gqa_speculation *gqa_speculation_new(gqa_session *s, gqa_session *draft, int lookup) {
    gqa_speculation *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    *p = (gqa_speculation){.session = s, .draft = draft, .lookup = lookup};
    for (int i = 0; i < SOURCES; i++) p->share[i] = 0.6;
    p->logits = malloc(GQA_DECODE_ORDER * s->model->vocab_size * sizeof *p->logits);
    if (p->logits) return p;
    free(p);
    return NULL;
}

/* ---- what pays ------------------------------------------------------------------------------- */

/* Moves a measured average, which one measurement can at most double. */
static void average(double *mean, double value) {
    double limit = *mean > 0 && value > 2 * *mean ? 2 * *mean : value;
    *mean += *mean > 0 ? (limit - *mean) / 8 : limit;
}

/* Whether the next pass has one row whatever pays. An accepted token takes no pass. */
static int is_plain_pass(const gqa_speculation *p) {
    int at = (p->total_tokens - p->total_accepted) % PLAIN_EVERY - PLAIN_FIRST;
    return at == 0 || at == 1;
}

/* A pass of one row: what decoding takes without speculation, if the one before was such a pass. */
static void measure_plain(gqa_speculation *p, double value) {
    if (p->total_tokens == 0) {
        p->seconds[0] = p->credit = value;
    } else if (p->n_proposals == 0) { /* still of the pass before */
        if (p->is_steady) average(&p->seconds[0], value);
        else p->seconds[0] = value;
        p->is_steady = 1;
    }
}

/* Of a pass, or a guess from the next smaller one. */
static double seconds_of(const gqa_speculation *p, int size) {
    if (p->seconds[size] > 0 || size == 0) return p->seconds[size];
    return 1.3 * seconds_of(p, size - 1);
}

/* Learns from the last pass, whose proposals are accepted or dropped by now. */
static void settle(gqa_speculation *p) {
    double *share = &p->share[p->source], plain = p->seconds[0];
    int n = p->n_proposals, n_tried = min_int(p->n_accepted + 1, n);
    for (int i = 0; i < n_tried; i++) *share += ((i < p->n_accepted) - *share) / 8;
    if (n > 0) p->credit += (1 + p->n_accepted) * plain - p->spent;
    p->credit += 0.01 * p->spent;
    if (p->credit > CREDIT_PASSES * plain) p->credit = CREDIT_PASSES * plain;
    p->n_accepted = 0;
}

/* The pass that promises the most tokens a second with up to `limit` proposals of a source. When
 * none promises more than one row, but there is credit, the smallest one tries again. */
static int best_size(const gqa_speculation *p, int source, int limit, double *rate) {
    const double plain = p->seconds[0], each = source == DRAFT ? p->draft_seconds : 0;
    double tokens = 1, chance = 1;
    int best = 0, rows = 1, has_credit = 0;
    if (!(plain > 0)) return 0;
    *rate = 1 / plain;
    for (int size = 1; size < SIZES && 1 << size <= limit + 1; size++) {
        for (; rows < 1 << size; rows++) tokens += chance *= p->share[source];
        double seconds = seconds_of(p, size) + (rows - 1) * each;
        if (seconds - plain > p->credit) break;
        has_credit = 1;
        if (tokens / seconds <= *rate) continue;
        *rate = tokens / seconds;
        best = size;
    }
    return best ? best : has_credit;
}

/* ---- proposals: into tokens[position + 1], ... ----------------------------------------------- */

/* The length of the longest end of tokens[n] that occurred before, the last time it did, and where
 * it was followed by tokens[*next]; 0: none of MIN_MATCH tokens. */
static int find_match(const int32_t *tokens, int n, int *next) {
    int longest = MIN_MATCH - 1;
    for (int end = n - 1; end > longest && longest < MAX_MATCH; end--) {
        int len = 0;
        int limit = min_int(end, MAX_MATCH);
        while (len < limit && tokens[end - 1 - len] == tokens[n - 1 - len]) len++;
        if (len <= longest) continue;
        longest = len;
        *next = end;
    }
    return longest < MIN_MATCH ? 0 : longest;
}

/* Proposes n tokens by the draft; returns how many it could. What cancels the session stops the
 * draft's passes, and then the session's own. */
static int draft_tokens(gqa_speculation *p, int32_t *tokens, int n) {
    gqa_session *s = p->session, *draft = p->draft;
    double start = gqa_os_seconds();
    int is_first = gqa_session_position(draft) == 0, made = 0;
    draft->canceller = &s->cancel;
    int status = gqa_session_sync(draft, s->tokens, s->position + 1, NULL);
    if (is_first) p->credit += gqa_os_seconds() - start; /* the prompt's time is no loss */
    for (; status >= 0 && made < n; made++) {
        if (made) status = gqa_session_eval(draft, &tokens[made], 1, NULL);
        if (status < 0) break;
        int32_t best = gqa_arg_max(draft->logits, draft->model->config.vocab_size);
        if (best >= s->model->config.vocab_size) break;
        tokens[made + 1] = best;
    }
    draft->canceller = NULL;
    if (status == GQA_ERR_CANCELLED) gqa_session_cancel(s);
    if (made && !is_first) average(&p->draft_seconds, (gqa_os_seconds() - start) / made);
    return made;
}

/* Puts at most `limit` proposals after the token at the session's position. Returns how many. */
static int propose(gqa_speculation *p, int limit) {
    gqa_session *s = p->session;
    int32_t *tokens = s->tokens + s->position;
    int next = 0, n_match = p->lookup ? find_match(s->tokens, s->position + 1, &next) : 0;
    int lookup_source = min_int(n_match, LONG_MATCH) - MIN_MATCH, size = 0, draft_size = 0;
    double rate = 0, draft_rate = 0;
    if (n_match) size = best_size(p, lookup_source, limit, &rate);
    if (p->draft) draft_size = best_size(p, DRAFT, limit, &draft_rate);
    int use_draft = p->draft && (!n_match || draft_rate > rate);
    int n = (1 << (use_draft ? draft_size : size)) - 1;
    if (s->fixed_proposals) n = n_match || p->draft ? min_int(s->fixed_proposals, limit) : 0;
    p->source = use_draft ? DRAFT : max_int(lookup_source, 0);
    if (use_draft && n) return draft_tokens(p, tokens, n);
    for (int i = 1; i <= n; i++) tokens[i] = s->tokens[next + i - 1]; /* they may overlap */
    return n;
}

/* ---- the pass -------------------------------------------------------------------------------- */

/* Evaluates the token, with proposals when that pays. */
static int eval_with_proposals(gqa_speculation *p, int32_t token, int limit,
                               gqa_error *err) {
    gqa_session *s = p->session;
    double start = gqa_os_seconds();
    s->tokens[s->position] = token;
    const int is_plain = !s->fixed_proposals && is_plain_pass(p);
    int n = limit > 0 && !is_plain ? propose(p, limit) : 0, size = 0;
    double proposed = gqa_os_seconds();
    int status = n ? gqa_session_eval_ahead(s, n + 1, p->logits, err)
                   : gqa_session_eval(s, &token, 1, err);
    double end = gqa_os_seconds();
    while (1 << size < n + 1) size++;
    if (!status && n == 0) measure_plain(p, end - proposed);
    else if (!status && 1 << size == n + 1) average(&p->seconds[size], end - proposed);
    p->total_tokens++;
    p->spent = end - start;
    p->total_seconds += p->spent;
    p->n_proposals = n;
    p->total_proposals += n;
    return status;
}

int gqa_speculation_eval(gqa_speculation *p, int32_t token, int limit, gqa_error *err) {
    gqa_session *s = p->session;
    if (s->n_ahead && s->tokens[s->position] == token) {
        p->n_accepted++;
        p->total_accepted++;
        p->total_tokens++;
        return gqa_session_step(s, err);
    }
    s->n_ahead = 0;
    settle(p);
    limit = min_int(limit, min_int(s->context - s->position, GQA_DECODE_ORDER) - 1);
    return eval_with_proposals(p, token, limit, err);
}

void gqa_speculation_end(gqa_speculation *p, gqa_generate_result *result) {
    if (!p) return;
    p->session->n_ahead = 0;
    result->proposed_tokens = p->total_proposals;
    result->accepted_tokens = p->total_accepted;
    if (p->total_seconds > 0 && p->total_proposals > 0)
        result->speculation_gain = p->total_tokens * p->seconds[0] / p->total_seconds;
    free(p->logits);
    free(p);
}
