/* sampler.c: from logits to one token.
 *
 * The likeliest token gets weight 1 and the others exp((logit - max) / temperature): the softmax before its division.
 * Top-k and top-p keep the head of the order "heavier first, lower id first on a tie", found by quickselect: expected
 * time is linear in the vocabulary, and nothing is ever sorted. Sums are double and run in a fixed order, so that a
 * seed and the same logits always give the same text. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/random.h"

typedef struct candidate {
    float weight;
    int32_t id;
} candidate;

struct gqa_sampler {
    gqa_sampler_options opt;
    uint64_t state;          /* of the random numbers */
    int32_t *recent;         /* [repeat_last] ring of the last tokens; NULL without a penalty */
    int n_recent, next;
    float *logits;           /* [capacity] with the penalty applied, NaN and infinities removed */
    candidate *candidates;   /* [capacity] */
    int capacity;
};

/* ---- set-up ------------------------------------------------------------------------------------------------------ */

static int check_options(const gqa_sampler_options *o, gqa_error *err) {
    if (!(o->temperature >= 0 && o->temperature <= FLT_MAX))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "temperature %g: expected a number from 0 up", (double)o->temperature);
    if (o->top_k < 0) return gqa_fail(err, GQA_ERR_ARGUMENT, "top_k %d: expected a number from 0 up", o->top_k);
    if (!(o->top_p >= 0 && o->top_p <= 1))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "top_p %g: expected 0 to 1", (double)o->top_p);
    if (!(o->min_p >= 0 && o->min_p < 1))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "min_p %g: expected 0 to less than 1", (double)o->min_p);
    if (!(o->repeat_penalty >= 0 && o->repeat_penalty <= FLT_MAX))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "repeat_penalty %g: expected a number from 0 up", (double)o->repeat_penalty);
    if (o->repeat_last < 0 || o->repeat_last > GQA_MAX_CONTEXT)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "repeat_last %d: expected 0 to %d", o->repeat_last, GQA_MAX_CONTEXT);
    return 0;
}

gqa_sampler *gqa_sampler_new(const gqa_sampler_options *opt, gqa_error *err) {
    static const gqa_sampler_options greedy;
    if (!opt) opt = &greedy;
    if (check_options(opt, err)) return NULL;
    gqa_sampler *s = calloc(1, sizeof *s);
    if (!s) goto fail;
    s->opt = *opt;
    if (s->opt.repeat_last == 0) s->opt.repeat_last = 64;
    if (s->opt.repeat_penalty > 0 && s->opt.repeat_penalty != 1.0f) {
        s->recent = malloc(sizeof *s->recent * (size_t)s->opt.repeat_last);
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

/* ---- logits ------------------------------------------------------------------------------------------------------ */

static int reserve(gqa_sampler *s, int n) {
    if (n <= s->capacity) return 0;
    float *logits = realloc(s->logits, sizeof *logits * (size_t)n);
    if (logits) s->logits = logits;
    candidate *candidates = realloc(s->candidates, sizeof *candidates * (size_t)n);
    if (candidates) s->candidates = candidates;
    if (!logits || !candidates) return GQA_ERR_MEMORY;
    s->capacity = n;
    return 0;
}

/* Finite numbers only, so that differences are never NaN; NaN counts as minus infinity. */
static float tame(float x) { return !(x >= -FLT_MAX) ? -FLT_MAX : x > FLT_MAX ? FLT_MAX : x; }

static void prepare_logits(gqa_sampler *s, const float *logits, int n) {
    for (int i = 0; i < n; i++) s->logits[i] = tame(logits[i]);
    for (int i = 0; i < s->n_recent; i++) {  /* from the caller's logit: a token seen twice is penalised once */
        int32_t id = s->recent[i];
        if (id < 0 || id >= n) continue;
        float x = tame(logits[id]);
        s->logits[id] = tame(x > 0 ? x / s->opt.repeat_penalty : x * s->opt.repeat_penalty);
    }
}

static int32_t arg_max(const float *x, int n) {
    int32_t best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* ---- selection --------------------------------------------------------------------------------------------------- */

static int before(candidate a, candidate b) { return a.weight != b.weight ? a.weight > b.weight : a.id < b.id; }

static void swap(candidate *a, candidate *b) {
    candidate t = *a;
    *a = *b;
    *b = t;
}

/* Moves the elements that come before a pivot, and the pivot after them, to the front; returns its place. */
static int partition(candidate *c, int n) {
    candidate *middle = c + n / 2, *last = c + n - 1;  /* the pivot is the median of three, put last */
    if (before(*middle, *c)) swap(middle, c);
    if (before(*last, *c)) swap(last, c);
    if (before(*middle, *last)) swap(middle, last);
    int place = 0;
    for (int i = 0; i < n - 1; i++)
        if (before(c[i], *last)) swap(&c[i], &c[place++]);
    swap(&c[place], last);
    return place;
}

/* Moves the first of c[n] to the front, in no order: the fewest that number k, or that weigh mass together, whichever
 * takes fewer. Returns how many. k >= 1, mass > 0. */
static int keep_head(candidate *c, int n, int k, double mass) {
    int low = 0, high = n;  /* all before low are kept, all from high on are dropped, the border is between */
    while (high - low > 1) {
        int border = low + partition(c + low, high - low) + 1;
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

static double total(const candidate *c, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)c[i].weight;
    return sum;
}

/* Top-k by logit first, so that only the chosen need an exp. Returns how many candidates there are. */
static int weigh(gqa_sampler *s, int n) {
    candidate *c = s->candidates;
    float max = s->logits[arg_max(s->logits, n)];
    for (int i = 0; i < n; i++) c[i] = (candidate){s->logits[i], i};
    if (s->opt.top_k > 0 && s->opt.top_k < n) n = keep_head(c, n, s->opt.top_k, HUGE_VAL);
    for (int i = 0; i < n; i++) c[i].weight = (float)exp(((double)c[i].weight - (double)max) / (double)s->opt.temperature);
    return n;
}

static int32_t draw(gqa_sampler *s, const candidate *c, int n) {
    double left = gqa_random_unit(gqa_random_next(&s->state)) * total(c, n);
    int32_t id = c[0].id;
    for (int i = 0; i < n; i++) {
        if (!(c[i].weight > 0)) continue;  /* rounding may leave a rest: the last token with any weight gets it */
        id = c[i].id;
        left -= (double)c[i].weight;
        if (left < 0) break;
    }
    return id;
}

int32_t gqa_sampler_next(gqa_sampler *s, const float *logits, int n) {
    if (!s || !logits || n <= 0) return GQA_ERR_ARGUMENT;
    if (reserve(s, n)) return GQA_ERR_MEMORY;
    prepare_logits(s, logits, n);
    if (s->opt.temperature == 0) return arg_max(s->logits, n);
    n = weigh(s, n);
    candidate *c = s->candidates;
    if (s->opt.top_p > 0 && s->opt.top_p < 1) n = keep_head(c, n, n, (double)s->opt.top_p * total(c, n));
    if (s->opt.min_p > 0) {
        int kept = 0;
        for (int i = 0; i < n; i++)
            if (c[i].weight >= s->opt.min_p) c[kept++] = c[i];  /* the likeliest weighs 1 */
        n = kept;
    }
    return draw(s, c, n);
}
