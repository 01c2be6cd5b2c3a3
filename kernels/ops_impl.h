/* ops_impl.h: the elementwise operations of a transformer block. */

/* exp(x) for lanes in [-87, 88] to about 2 ulp; smaller ones (minus infinity too) give 0, larger
 * ones saturate. x = n ln 2 + r, |r| <= ln 2 / 2 (Cody & Waite 1980, ln 2 in two parts); e^r by a
 * polynomial; 2^n by the exponent bits. */
static inline vf vf_exp(vf x) {
    vf low = vf_set1(-87.3f);
    vf clamped = vf_min(vf_max(x, low), vf_set1(88.3f));
    const vf magic = vf_set1(12582912.0f); /* 1.5 * 2^23: added, it rounds to the nearest integer */
    vf shifted = vf_fma(clamped, vf_set1(1.44269504f), magic);
    vf n = vf_sub(shifted, magic);
    vf r = vf_fma(n, vf_set1(-0.693359375f), clamped);
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(vf_mul(r, r), p, vf_add(r, vf_set1(1.0f)));
    return vf_keep_above(vf_scale2(p, shifted), x, low);
}

static void kernel_rmsnorm(float *out, const float *x, const float *weight, int n, float eps) {
    vf s0 = vf_set1(0), s1 = s0;
    int i = 0;
    for (; i + 2 * VF_LANES <= n; i += 2 * VF_LANES) {
        vf a = vf_load(x + i), b = vf_load(x + i + VF_LANES);
        s0 = vf_fma(a, a, s0);
        s1 = vf_fma(b, b, s1);
    }
    float sum = vf_sum(vf_add(s0, s1));
    for (; i < n; i++) sum += x[i] * x[i];
    float scale = 1 / sqrtf(sum / (float)n + eps);
    vf vscale = vf_set1(scale);
    for (i = 0; i + VF_LANES <= n; i += VF_LANES)
        vf_store(out + i, vf_mul(vf_mul(vf_load(x + i), vscale), vf_load(weight + i)));
    for (; i < n; i++) out[i] = x[i] * scale * weight[i];
}

static void kernel_rope(float *head, const float *cos_sin, int rope_dim, int half) {
    int pairs = rope_dim / 2, stride = half ? 1 : 2, other = half ? pairs : 1;
    for (int i = 0; i < pairs; i++) {
        float c = cos_sin[i], s = cos_sin[pairs + i];
        float a = head[i * stride], b = head[i * stride + other];
        head[i * stride] = a * c - b * s;
        head[i * stride + other] = a * s + b * c;
    }
}

static void kernel_swiglu(float *out, const float *gate, const float *up, int n) {
    int i = 0;
    vf one = vf_set1(1);
    for (; i + VF_LANES <= n; i += VF_LANES) {
        vf g = vf_load(gate + i), e = vf_exp(vf_sub(vf_set1(0), g));
        vf_store(out + i, vf_mul(vf_div(g, vf_add(one, e)), vf_load(up + i)));
    }
    for (; i < n; i++) out[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

/* gelu(g) = g / (1 + exp(-2 u)), u = sqrt(2 / pi) (g + 0.044715 g^3) */
static void kernel_geglu(float *out, const float *gate, const float *up, int n) {
    const float linear = -1.5957691216f, cubic = -0.0713548162f; /* -2 sqrt(2 / pi), times 0.0447 */
    int i = 0;
    vf one = vf_set1(1);
    for (; i + VF_LANES <= n; i += VF_LANES) {
        vf g = vf_load(gate + i);
        vf u = vf_mul(g, vf_fma(vf_mul(g, g), vf_set1(cubic), vf_set1(linear)));
        vf_store(out + i, vf_mul(vf_div(g, vf_add(one, vf_exp(u))), vf_load(up + i)));
    }
    for (; i < n; i++) {
        float g = gate[i];
        out[i] = g / (1 + expf(g * (linear + cubic * g * g))) * up[i];
    }
}

static void kernel_add(float *x, const float *y, int n) {
    int i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES)
        vf_store(x + i, vf_add(vf_load(x + i), vf_load(y + i)));
    for (; i < n; i++) x[i] += y[i];
}
