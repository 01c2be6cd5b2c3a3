/* rope.c: the frequencies that RoPE rotates by, with the scalings that extend a model's context. */
#include <math.h>
#include <stdlib.h>

#include "model_internal.h"

/* YaRN's ramp (arXiv 2309.00071, section 3.2): 1 for pairs that rotate often within the trained
 * context and are kept, 0 for those that rotate rarely and are interpolated, linear between. */
static double yarn_ramp(const gqa_config *c, int pair) {
    double rotations = (double)c->rope_orig_context / (2 * 3.14159265358979323846);
    double per_log = c->rope_dim / (2 * log((double)c->rope_theta));
    double low = floor(per_log * log(rotations / (double)c->rope_beta_fast));
    double high = ceil(per_log * log(rotations / (double)c->rope_beta_slow));
    if (low < 0) low = 0;
    if (high > c->rope_dim - 1) high = c->rope_dim - 1;
    double y = (pair - low) / (high - low > 0.001 ? high - low : 0.001);
    return 1 - (y < 0 ? 0 : y > 1 ? 1 : y);
}

/* The frequency of a pair whose unscaled frequency is f. */
static double scaled_frequency(const gqa_config *c, int pair, double f) {
    if (c->rope_scaling == GQA_ROPE_NONE) return f;
    double interpolated = f / (double)(c->rope_factor > 0 ? c->rope_factor : 1);
    double keep = c->rope_scaling == GQA_ROPE_YARN ? yarn_ramp(c, pair) : 0;
    return interpolated * (1 - keep) + f * keep;
}

/* YaRN scales the scores with the context; with the key for M, less so. */
static double yarn_magnitude(const gqa_config *c) {
    if (c->latent_dim) return 1; /* it is in attention_scale */
    double log_factor = 0.1 * log((double)c->rope_factor);
    return (1 + log_factor) / (1 + (double)c->rope_yarn_log_mul * log_factor);
}

static int fill_table(gqa_model *m, int table, double theta, const float *factors,
                      const char *name, gqa_error *err) {
    const gqa_config *c = &m->config;
    int is_scaled = table != GQA_ROPE_LOCAL;
    gqa_rope_table *t = &m->rope[table];
    t->dim = !is_scaled && c->rope_dim_local ? c->rope_dim_local : c->rope_dim;
    int pairs = t->dim / 2;
    t->freq = malloc(sizeof(double) * max_int(pairs, 1));
    if (!t->freq) return fail_memory(&m->file, err, "no memory for the RoPE table");
    t->magnitude = is_scaled && c->rope_attn_factor > 0 ? c->rope_attn_factor : 1;
    if (is_scaled && c->rope_scaling == GQA_ROPE_YARN) t->magnitude *= (float)yarn_magnitude(c);
    for (int i = 0; i < pairs; i++) {
        double f = pow(theta, -2.0 * i / t->dim);
        if (factors) {
            if (!(factors[i] > 0) || !isfinite(factors[i]))
                return fail_format(&m->file, err, "tensor %s: element %d is %g, expected a "
                                   "positive number", name, i, (double)factors[i]);
            f /= (double)factors[i];
        }
        t->freq[i] = is_scaled ? scaled_frequency(c, i, f) : f;
    }
    return 0;
}

int gqa_model_make_rope(gqa_model *m, const gqa_rope_factors *factors, gqa_error *err) {
    double theta = (double)m->config.rope_theta, local = (double)m->config.rope_theta_local;
    const float *usual = factors->all ? factors->all : factors->in_short;
    const char *name = factors->all ? "rope_freqs.weight" : "rope_factors_short.weight";
    if (!factors->in_short != !factors->in_long)
        return fail_format(&m->file, err, "tensor rope_factors_%s.weight is missing",
                           factors->in_short ? "long" : "short");
    int status = fill_table(m, GQA_ROPE_MODEL, theta, usual, name, err);
    if (!status && local > 0) status = fill_table(m, GQA_ROPE_LOCAL, local, NULL, "", err);
    if (!status && factors->in_long)
        status = fill_table(m, GQA_ROPE_LONG, theta, factors->in_long,
                            "rope_factors_long.weight", err);
    return status;
}
