/* pass.c: the steps of a pass that its files share: products, Add & Norm. */
#include <string.h>

#include "pass.h"

void gqa_matmul(pass_state *p, gqa_worker *me, const gqa_acts *a, const product *list, int count) {
    int total = 0, first = 0;
    for (int j = 0; j < count; j++) total += gqa_matmul_units(list[j].w);
    int u = gqa_unit_first(me, total);
    for (int j = 0; j < count; j++) {
        const gqa_matrix *w = list[j].w;
        int units = gqa_matmul_units(w), planes = planes_of(p, w);
        for (; u >= 0 && u < first + units; u = gqa_unit_next(me)) {
            if (cancelled(p)) continue;
            gqa_matmul_unit(p->kernels, w, a, p->n, planes, list[j].y, list[j].ldy, u - first,
                            thread_scratch(p, me));
        }
        first += units;
    }
}

void gqa_add_branch(const pass_state *p, float *x, float *branch, const float *post_norm) {
    const gqa_config *c = p->config;
    if (post_norm) p->kernels->rmsnorm(branch, branch, post_norm, c->dim, c->norm_eps);
    scale_row(branch, p->dim, c->residual_scale);
    p->kernels->add(x, branch, c->dim);
}

void gqa_add_and_norm(pass_state *p, gqa_worker *me, int first, const float *post_norm,
                      const float *norm, const product *next, int count) {
    int dim = p->config->dim, forms = forms_for(p, next, count);
    for_units(i, me, p->n) {
        size_t row = i * p->dim;
        float *x = p->scratch->x + row, *h = p->scratch->h + row;
        if (!first) gqa_add_branch(p, x, h, post_norm);
        if (norm) p->kernels->rmsnorm(h, x, norm, dim, p->config->norm_eps);
        else memcpy(h, x, sizeof(float) * p->dim);
        make_forms(p, forms, &p->scratch->h_acts, i, i + 1, 0, dim);
    }
}
