/* grad_impl.h: the operations that only training needs: softmax, gradients and AdamW. */

/* The first n lanes from p, the others filled; and back. */
static inline vf vf_load_some(const float *p, int n, float fill) {
    float lanes[VF_LANES];
    for (int i = 0; i < VF_LANES; i++) lanes[i] = i < n ? p[i] : fill;
    return vf_load(lanes);
}
static inline void vf_store_some(float *p, vf v, int n) {
    float lanes[VF_LANES];
    vf_store(lanes, v);
    for (int i = 0; i < n; i++) p[i] = lanes[i];
}

static float kernel_softmax(float *x, int n, float scale) {
    int i = 0, rest = n % VF_LANES;
    vf vmax = vf_load_some(x + n - rest, rest, -INFINITY);
    vf vscale = vf_set1(scale), sum = vf_set1(0);
    for (; i < n - rest; i += VF_LANES) vmax = vf_max(vmax, vf_load(x + i));
    float max = vf_hmax(vmax) * scale;
    vf shift = vf_set1(-max);
    for (i = 0; i < n - rest; i += VF_LANES) {
        vf e = vf_exp(vf_fma(vf_load(x + i), vscale, shift));
        vf_store(x + i, e);
        sum = vf_add(sum, e);
    }
    if (rest) {
        vf e = vf_exp(vf_fma(vf_load_some(x + i, rest, -INFINITY), vscale, shift));
        vf_store_some(x + i, e, rest);
        sum = vf_add(sum, e);
    }
    float total = vf_sum(sum);
    vf inverse = vf_set1(1 / total);
    for (i = 0; i < n - rest; i += VF_LANES)
        vf_store(x + i, vf_mul(vf_load(x + i), inverse));
    if (rest) vf_store_some(x + i, vf_mul(vf_load_some(x + i, rest, 0), inverse), rest);
    return max + logf(total);
}

static void kernel_softmax_from_lse(float *x, int n, float scale, float lse) {
    int i = 0, rest = n % VF_LANES;
    vf vscale = vf_set1(scale), shift = vf_set1(-lse);
    for (; i < n - rest; i += VF_LANES)
        vf_store(x + i, vf_exp(vf_fma(vf_load(x + i), vscale, shift)));
    if (rest) {
        vf e = vf_exp(vf_fma(vf_load_some(x + i, rest, 0), vscale, shift));
        vf_store_some(x + i, e, rest);
    }
}

static void kernel_softmax_grad(float *dx, const float *p, int n, float scale, float delta) {
    int i = 0;
    vf vscale = vf_set1(scale), vdelta = vf_set1(delta);
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_store(dx + i, vf_mul(vf_mul(vf_load(p + i), vf_sub(vf_load(dx + i), vdelta)), vscale));
    for (; i < n; i++) dx[i] = p[i] * (dx[i] - delta) * scale;
}

static float kernel_dot(const float *a, const float *b, int n) {
    int i = 0;
    vf s0 = vf_set1(0), s1 = s0;
    for (; i + 2 * VF_LANES <= n; i += 2 * VF_LANES) {
        s0 = vf_fma(vf_load(a + i), vf_load(b + i), s0);
        s1 = vf_fma(vf_load(a + i + VF_LANES), vf_load(b + i + VF_LANES), s1);
    }
    float sum = vf_sum(vf_add(s0, s1));
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* silu(g) = g s with s = 1 / (1 + e^-g); its slope is s (1 + g (1 - s)). */
static void kernel_swiglu_grad(float *dgate, float *dup, const float *dout, const float *gate,
                               const float *up, int n) {
    vf one = vf_set1(1);
    for (int i = 0; i < n; i += VF_LANES) {
        int some = min_int(n - i, VF_LANES), whole = some == VF_LANES;
        vf g = whole ? vf_load(gate + i) : vf_load_some(gate + i, some, 0);
        vf u = whole ? vf_load(up + i) : vf_load_some(up + i, some, 0);
        vf d = whole ? vf_load(dout + i) : vf_load_some(dout + i, some, 0);
        vf s = vf_div(one, vf_add(one, vf_exp(vf_sub(vf_set1(0), g))));
        vf slope = vf_mul(s, vf_fma(g, vf_sub(one, s), one));
        vf dg = vf_mul(vf_mul(d, u), slope), du = vf_mul(d, vf_mul(g, s));
        if (whole) {
            vf_store(dgate + i, dg);
            vf_store(dup + i, du);
        } else {
            vf_store_some(dgate + i, dg, some);
            vf_store_some(dup + i, du, some);
        }
    }
}

/* With r = 1 / sqrt(mean(x^2) + eps): out = x r w, so dw = dout x r and
 * dx = r w dout - x r^3 / n sum(w dout x). */
static void kernel_rmsnorm_grad(float *dx, float *dweight, const float *dout, const float *x,
                                const float *weight, int n, float eps) {
    float r = 1 / sqrtf(kernel_dot(x, x, n) / (float)n + eps);
    int i = 0;
    vf s = vf_set1(0);
    for (; i + VF_LANES <= n; i += VF_LANES)
        s = vf_fma(vf_mul(vf_load(weight + i), vf_load(dout + i)), vf_load(x + i), s);
    float sum = vf_sum(s);
    for (; i < n; i++) sum += weight[i] * dout[i] * x[i];
    float back = -sum * r * r * r / (float)n;
    vf vr = vf_set1(r), vback = vf_set1(back);
    for (i = 0; i + VF_LANES <= n; i += VF_LANES) {
        vf d = vf_mul(vf_load(dout + i), vr), v = vf_load(x + i);
        vf_store(dweight + i, vf_fma(d, v, vf_load(dweight + i)));
        vf_store(dx + i, vf_add(vf_load(dx + i), vf_fma(v, vback, vf_mul(d, vf_load(weight + i)))));
    }
    for (; i < n; i++) {
        dweight[i] += dout[i] * r * x[i];
        dx[i] += dout[i] * r * weight[i] + x[i] * back;
    }
}

static void kernel_adamw(float *w, float *m, float *v, const float *g, size_t n,
                         const gqa_adamw *o) {
    for (size_t i = 0; i < n; i++) {
        float grad = g[i] * o->grad_scale;
        m[i] = o->beta1 * m[i] + (1 - o->beta1) * grad;
        v[i] = o->beta2 * v[i] + (1 - o->beta2) * grad * grad;
        float step = m[i] * o->correct1 / (sqrtf(v[i] * o->correct2) + o->eps);
        w[i] -= o->rate * (step + o->decay * w[i]);
    }
}
