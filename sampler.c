/* sampler.c: from logits to one token.
 *
 * The likeliest token gets weight 1 and the others exp((logit - max) / temperature): the softmax
 * before its division. Top-k and top-p keep the head of the order "heavier first, lower id first on
 * a tie", found by quickselect: expected time is linear in the vocabulary, and nothing is ever
 * sorted. Sums are double and run in a fixed order, so that a seed and the same logits always give
 * the same text. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/random.h"

typedef struct sampler_candidate {
    float weight;
    int32_t id;
} sampler_candidate;

struct gqa_sampler {
    gqa_sampler_options opt;
    uint64_t state;          /* of the random numbers */
    int32_t *recent;         /* [repeat_last] ring of the last tokens; NULL without a penalty */
    int n_recent, next;
    float *logits;           /* [capacity] with the penalty applied, all finite */
    sampler_candidate *candidates; /* [capacity] */
    int capacity;
};

/* ---- creating -------------------------------------------------------------------------------- */

static int check_sampler_options(const gqa_sampler_options *o, gqa_error *err) {
    const struct {
        const char *name;
        double value;
        int valid;
        const char *expected;
    } checks[] = {
        {"temperature", (double)o->temperature, o->temperature >= 0 && o->temperature <= FLT_MAX,
         "a number from 0 up"},
        {"top_k", o->top_k, o->top_k >= 0, "a number from 0 up"},
        {"top_p", (double)o->top_p, o->top_p >= 0 && o->top_p <= 1, "0 to 1"},
        {"min_p", (double)o->min_p, o->min_p >= 0 && o->min_p < 1, "0 to less than 1"},
        {"repeat_penalty", (double)o->repeat_penalty,
         o->repeat_penalty >= 0 && o->repeat_penalty <= FLT_MAX, "a number from 0 up"},
        {"repeat_last", o->repeat_last, o->repeat_last >= 0 && o->repeat_last <= GQA_MAX_CONTEXT,
         "0 to 16777216"},
    };
    for (size_t i = 0; i < array_length(checks); i++)
        if (!checks[i].valid)
            return gqa_fail(err, GQA_ERR_ARGUMENT, "%s %.7g: expected %s", checks[i].name,
                            checks[i].value, checks[i].expected);
    return gqa_check_reserved(o->reserved, sizeof o->reserved, "sampler options", err);
}

gqa_sampler *gqa_sampler_new(const gqa_sampler_options *opt, gqa_error *err) {
    static const gqa_sampler_options greedy;
    if (!opt) opt = &greedy;
    if (check_sampler_options(opt, err)) return NULL;
    gqa_sampler *s = calloc(1, sizeof *s);
    if (!s) goto fail;
    s->opt = *opt;
    if (s->opt.repeat_last == 0) s->opt.repeat_last = 64;
    if (s->opt.repeat_penalty > 0 && s->opt.repeat_penalty != 1.0f) {
        s->recent = malloc(sizeof *s->recent * s->opt.repeat_last);
        if (!s->recent) goto fail;
    }
    gqa_sampler_reset(s, opt->seed);
    return s;
fail:
    gqa_fail(err, GQA_ERR_MEMORY, "no memory for a sampler");
    gqa_sampler_free(s);
    return NULL;
}

void gqa_sampler_free(gqa_sampler *s) {
    if (!s) return;
    free(s->recent);
    free(s->logits);
    free(s->candidates);
    free(s);
}

void gqa_sampler_reset(gqa_sampler *s, uint64_t seed) {
    s->state = seed;
    s->n_recent = s->next = 0;
}

void gqa_sampler_accept(gqa_sampler *s, int32_t token) {
    if (!s->recent) return;
    s->recent[s->next] = token;
    s->next = (s->next + 1) % s->opt.repeat_last;
    if (s->n_recent < s->opt.repeat_last) s->n_recent++;
}

/* ---- logits ---------------------------------------------------------------------------------- */

static int reserve_candidates(gqa_sampler *s, int n) {
    if (n <= s->capacity) return 0;
    float *logits = realloc(s->logits, sizeof *logits * n);
    if (logits) s->logits = logits;
    sampler_candidate *candidates = realloc(s->candidates, sizeof *candidates * n);
    if (candidates) s->candidates = candidates;
    if (!logits || !candidates) return GQA_ERR_MEMORY;
    s->capacity = n;
    return 0;
}

/* Finite numbers only, so that differences are never NaN; NaN counts as minus infinity. */
static float clamp_finite(float x) {
    if (!(x >= -FLT_MAX)) return -FLT_MAX;
    return x > FLT_MAX ? FLT_MAX : x;
}

/* Neither minus infinity nor NaN. */
static int is_possible(float logit) { return logit > -HUGE_VALF; }

/* The penalty is always taken from the caller's logit: a token seen twice is penalised once. */
static void prepare_logits(gqa_sampler *s, const float *logits, int n) {
    for (int i = 0; i < n; i++) s->logits[i] = clamp_finite(logits[i]);
    for (int i = 0; i < s->n_recent; i++) {
        int32_t id = s->recent[i];
        if (id < 0 || id >= n || !is_possible(logits[id])) continue;
        float x = clamp_finite(logits[id]);
        x = x > 0 ? x / s->opt.repeat_penalty : x * s->opt.repeat_penalty;
        s->logits[id] = clamp_finite(x);
    }
}

int32_t gqa_arg_max(const float *x, int n) {
    int32_t best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

static double difference(float x, double max) {  /* infinity minus itself is 0 here */
    return (double)x == max ? 0 : (double)x - max;
}

/* log(sum exp(logits - *max)), where *max is the largest; apart, the two lose no digits. */
static double log_sum_above(const float *logits, int n, double *max) {
    double sum = 0;
    *max = -HUGE_VAL;
    if (!logits) n = 0;
    for (int i = 0; i < n; i++)
        if ((double)logits[i] > *max) *max = (double)logits[i];
    for (int i = 0; i < n; i++)
        if (is_possible(logits[i])) sum += exp(difference(logits[i], *max));
    return log(sum);
}

double gqa_log_sum_exp(const float *logits, int n) {
    double max, log_sum = log_sum_above(logits, n, &max);
    return max + log_sum;
}

void gqa_log_softmax(const float *logits, int n, float *out) {
    double max, log_sum = log_sum_above(logits, n, &max);
    for (int i = 0; i < n; i++) {
        int possible = logits && is_possible(logits[i]);
        out[i] = possible ? (float)(difference(logits[i], max) - log_sum) : -HUGE_VALF;
    }
}

/* ---- selection ------------------------------------------------------------------------------- */

static int ranks_before(sampler_candidate a, sampler_candidate b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
}

static void swap_candidates(sampler_candidate *a, sampler_candidate *b) {
    sampler_candidate t = *a;
    *a = *b;
    *b = t;
}

/* Moves the elements that rank before a pivot, and the pivot after them, to the front; returns the
 * pivot's index. The pivot is the median of three, put last. */
static int partition_candidates(sampler_candidate *c, int n) {
    sampler_candidate *middle = c + n / 2, *last = c + n - 1;
    if (ranks_before(*middle, *c)) swap_candidates(middle, c);
    if (ranks_before(*last, *c)) swap_candidates(last, c);
    if (ranks_before(*middle, *last)) swap_candidates(middle, last);
    int index = 0;
    for (int i = 0; i < n - 1; i++)
        if (ranks_before(c[i], *last)) swap_candidates(&c[i], &c[index++]);
    swap_candidates(&c[index], last);
    return index;
}

/* Moves the first of c[n] in rank to the front, in no order: the fewest that number k, or that
 * weigh mass together, whichever is fewer. Returns how many. k >= 1, mass > 0. */
static int select_top(sampler_candidate *c, int n, int k, double mass) {
    int low = 0, high = n;  /* all below low are kept, all from high on are dropped */
    while (high - low > 1) {
        int border = low + partition_candidates(c + low, high - low) + 1;
        double head = 0;
        for (int i = low; i < border - 1; i++) head += (double)c[i].weight;
        if (border - 1 >= k || head >= mass) {        /* enough without the pivot */
            high = border - 1;
        } else if (border == k || head + (double)c[border - 1].weight >= mass) {
            return border;                            /* the pivot is the last one needed */
        } else {
            mass -= head + (double)c[border - 1].weight;
            low = border;
        }
    }
    return high;
}

static double total_weight(const sampler_candidate *c, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)c[i].weight;
    return sum;
}

/* Top-k by logit first, so that only the chosen need an exp. Returns how many candidates there
 * are. */
static int softmax_weights(gqa_sampler *s, int n) {
    sampler_candidate *c = s->candidates;
    double max = (double)s->logits[gqa_arg_max(s->logits, n)];
    double temperature = (double)s->opt.temperature;
    for (int i = 0; i < n; i++) c[i] = (sampler_candidate){s->logits[i], i};
    if (s->opt.top_k > 0 && s->opt.top_k < n) n = select_top(c, n, s->opt.top_k, HUGE_VAL);
    for (int i = 0; i < n; i++) {
        double above = (double)c[i].weight - max; /* a banned token stays banned when it is hot */
        c[i].weight = c[i].weight > -FLT_MAX ? (float)exp(above / temperature) : 0;
    }
    return n;
}

/* Rounding may leave a rest of the random number: the last token with any weight gets it. */
static int32_t draw(gqa_sampler *s, const sampler_candidate *c, int n) {
    double left = gqa_random_unit(gqa_random_next(&s->state)) * total_weight(c, n);
    int32_t id = c[0].id;
    for (int i = 0; i < n; i++) {
        if (!(c[i].weight > 0)) continue;
        id = c[i].id;
        left -= (double)c[i].weight;
        if (left < 0) break;
    }
    return id;
}

int32_t gqa_sampler_next(gqa_sampler *s, const float *logits, int n) {
    if (!s || !logits || n <= 0) return GQA_ERR_ARGUMENT;
    if (reserve_candidates(s, n)) return GQA_ERR_MEMORY;
    prepare_logits(s, logits, n);
    int32_t best = gqa_arg_max(s->logits, n);
    if (s->logits[best] <= -FLT_MAX) return GQA_ERR_NUMERIC; /* all are banned */
    if (s->opt.temperature == 0) return best;
    n = softmax_weights(s, n);
    sampler_candidate *c = s->candidates;
    if (s->opt.top_p > 0 && s->opt.top_p < 1)
        n = select_top(c, n, n, (double)s->opt.top_p * total_weight(c, n));
    if (s->opt.min_p > 0) {
        int kept = 0;
        for (int i = 0; i < n; i++)
            if (c[i].weight >= s->opt.min_p) c[kept++] = c[i];  /* the likeliest weighs 1 */
        n = kept;
    }
    return draw(s, c, n);
}
