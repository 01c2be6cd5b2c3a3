/* chart.c: line charts as SVG (chart.h). The colours are those of Okabe & Ito (2008), which the
 * colour-blind can tell apart as well. */
#include "chart.h"

#include <math.h>
#include <string.h>

#include "../base/utf8.h"
#include "command.h"

enum { WIDTH = 460, HEIGHT = 340, LEFT = 70, RIGHT = 26, TOP = 44, BOTTOM = 52, CAPTION = 22 };
static const char *const colours[] = {
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
};
enum { N_COLOURS = sizeof colours / sizeof *colours, LONG_KEY = 44 };

/* The colour of a series, then dashed, then dotted. */
static const char *stroke_of(int series, char buf[80]) {
    static const char *const dashes[] = {"none", "8 4", "2 3"};
    snprintf(buf, 80, "stroke=\"%s\" stroke-dasharray=\"%s\"", colours[series % N_COLOURS],
             dashes[series / N_COLOURS % 3]);
    return buf;
}

static const char style[] =
    "<style>text{fill:#222}.title{font-size:14px;font-weight:600}.note{fill:#555;font-size:11px}"
    ".grid{stroke:#ddd}.axis,.limit{stroke:#666}.page{fill:#fff}"
    ".limit{stroke-dasharray:6 4}"
    ".key{paint-order:stroke;stroke:#fff;stroke-width:4px}"
    "@media screen and (prefers-color-scheme:dark){"
    "text{fill:#e6e6e6}.note{fill:#aaa}.grid{stroke:#3a3a3a}"
    ".axis,.limit{stroke:#999}.page{fill:#15181c}.key{stroke:#15181c}}</style>\n";

/* The ranges of a chart, and where it stands. */
typedef struct frame {
    double left, right;          /* of the plot, in pixels; it begins at TOP */
    double bottom;
    double x0, x1, y0, y1;       /* the values at its edges */
    int log_x, log_y;
    double step;                 /* between ticks of y: a difference or a factor */
} frame;

/* ---- elements ------------------------------------------------------------------------------- */

void chart_text(FILE *out, const char *text) {
    for (size_t left = strlen(text), n; left; text += n, left -= n) {
        int length = utf8_length(text, left);
        n = length > 0 ? (size_t)length : 1;
        if (*text == '<') fputs("&lt;", out);
        else if (*text == '&') fputs("&amp;", out);
        else if (*text == '\n' || *text == '\t') fputc(' ', out);
        else if (length <= 0 || (unsigned char)*text < 0x20) fputs("\xEF\xBF\xBD", out);
        else fwrite(text, 1, n, out);
    }
}

/* kind: its class, or NULL. */
static void text(FILE *out, double x, double y, const char *anchor, const char *what,
                 const char *kind) {
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"", x, y, anchor);
    if (kind) fprintf(out, " class=\"%s\"", kind);
    if (kind && !strcmp(kind, "key") && strlen(what) > LONG_KEY) /* squeezed into the plot */
        fprintf(out, " textLength=\"%d\" lengthAdjust=\"spacingAndGlyphs\"", WIDTH - 160);
    fputc('>', out);
    chart_text(out, what);
    fputs("</text>\n", out);
}

/* attributes: of the class or the stroke. */
static void line(FILE *out, double x1, double y1, double x2, double y2, const char *attributes) {
    fprintf(out, "<line %s x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", attributes, x1, x2,
            y1, y2);
}

/* A number as people write it: 12000 is 12k. */
static const char *label(double v, chart_scale scale, char buf[32]) {
    if (scale == SCALE_BYTES) return human_bytes(v, buf);
    if (v >= 1 << 20 && fmod(v, 1 << 20) == 0) snprintf(buf, 24, "%gM", v / (1 << 20));
    else if (v >= 1e6) snprintf(buf, 24, "%gM", v / 1e6);
    else if (v >= 1024 && fmod(v, 1024) == 0) snprintf(buf, 24, "%gk", v / 1024);
    else if (v >= 10000) snprintf(buf, 24, "%gk", v / 1000);
    else snprintf(buf, 24, "%g", v);
    return buf;
}

/* ---- scales --------------------------------------------------------------------------------- */

/* A step of 1, 2 or 5 times a power of ten that divides the range into 4 to 8. */
static double nice_step(double range) {
    double power = pow(10, floor(log10(range / 4))), steps = range / 4 / power;
    return power * (steps >= 5 ? 5 : steps >= 2 ? 2 : 1);
}

/* Where v lies between low and high. */
static double share_of(double v, double low, double high, int is_log) {
    if (high <= low) return 0.5;
    return is_log ? log2(v / low) / log2(high / low) : (v - low) / (high - low);
}

static double pixel_x(const frame *f, double x) {
    return f->left + share_of(x, f->x0, f->x1, f->log_x) * (f->right - f->left);
}

static double pixel_y(const frame *f, double y) {
    return f->bottom - share_of(y, f->y0, f->y1, f->log_y) * (f->bottom - TOP);
}

/* The factor between ticks at powers of two: at most 8 of them. */
static double log_step(double low, double high) { return exp2(ceil(log2(high / low) / 7)); }

/* Widens a range to whole ticks. Returns their step: a factor of logarithmic ones. */
static double widen(double *low, double *high, chart_scale scale) {
    if (scale == SCALE_BYTES) {
        *low = exp2(floor(log2(*low)));
        *high = fmax(exp2(ceil(log2(*high))), 2 * *low);
        return log_step(*low, *high);
    }
    if (scale == SCALE_ZERO) *low = 0;
    double step = *high > *low ? nice_step(*high - *low) : fmax(fabs(*high), 1);
    *low = floor(*low / step) * step;
    *high = fmax(ceil(*high / step), 1) * step;
    return step;
}

/* The frame that holds all series of a chart that begins at `left`. */
static frame fit(const chart *c, double left) {
    frame f = {
        .left = left + LEFT, .right = left + WIDTH - RIGHT, .bottom = HEIGHT - BOTTOM,
        .x0 = HUGE_VAL, .x1 = -HUGE_VAL, .y0 = HUGE_VAL, .y1 = c->limit,
        .log_x = c->x >= SCALE_LOG, .log_y = c->y >= SCALE_LOG,
    };
    for (int s = 0; s < c->n_series; s++)
        for (int i = 0; i < c->series[s].n; i++) {
            f.x0 = fmin(f.x0, c->series[s].x[i]);
            f.x1 = fmax(f.x1, c->series[s].x[i]);
            f.y0 = fmin(f.y0, c->series[s].y[i]);
            f.y1 = fmax(f.y1, c->series[s].y[i]);
        }
    if (c->x == SCALE_BYTES) widen(&f.x0, &f.x1, c->x);
    f.step = widen(&f.y0, &f.y1, c->y);
    return f;
}

/* ---- the chart ------------------------------------------------------------------------------ */

/* Of x, unless its label would overlap that of the last. */
static void tick(FILE *out, const chart *c, const frame *f, double x, double *last) {
    char buf[32];
    double at = pixel_x(f, x), gap = c->x == SCALE_BYTES ? 58 : 30;
    if (fabs(at - *last) < gap) return;
    line(out, at, f->bottom, at, f->bottom + 5, "class=\"axis\"");
    text(out, at, f->bottom + 19, "middle", label(x, c->x, buf), NULL);
    *last = at;
}

static void axes(FILE *out, const chart *c, const frame *f) {
    char buf[32];
    double end = f->y1 + fabs(f->y1) / 1e4;
    for (double y = f->y0; y <= end; y = f->log_y ? y * f->step : y + f->step) {
        line(out, f->left, pixel_y(f, y), f->right, pixel_y(f, y), "class=\"grid\"");
        text(out, f->left - 8, pixel_y(f, y) + 4, "end", label(y, c->y, buf), NULL);
    }
    double last = -1e9, factor = c->x == SCALE_BYTES ? log_step(f->x0, f->x1) : 2;
    for (double x = f->x0; c->x == SCALE_BYTES && x <= f->x1 * 1.0001; x *= factor)
        tick(out, c, f, x, &last);
    for (int i = 0; c->x != SCALE_BYTES && c->n_series && i < c->series[0].n; i++)
        tick(out, c, f, c->series[0].x[i], &last); /* at the points of the first series */
    line(out, f->left, f->bottom, f->right, f->bottom, "class=\"axis\"");
    text(out, f->left, TOP - 22, "start", c->title, "title");
    text(out, f->left, TOP - 6, "start", c->y_label, "note");
    text(out, f->right, HEIGHT - 14, "end", c->x_label, "note");
}

static void curve(FILE *out, const chart_series *s, const frame *f, int series) {
    char stroke[80];
    fprintf(out, "<polyline fill=\"none\" %s stroke-width=\"2.2\" points=\"",
            stroke_of(series, stroke));
    for (int i = 0; i < s->n; i++)
        fprintf(out, "%.1f,%.1f ", pixel_x(f, s->x[i]), pixel_y(f, s->y[i]));
    fputs("\"/>\n", out);
    for (int i = 0; i < s->n; i++) {
        fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.4\" fill=\"%s\">", pixel_x(f, s->x[i]),
                pixel_y(f, s->y[i]), colours[series % N_COLOURS]);
        fputs("<title>", out);
        chart_text(out, s->name);
        fprintf(out, ": %g, %.4g</title></circle>\n", s->x[i], s->y[i]);
    }
}

/* Names and colours, at the upper right, where decoding curves rarely are, or at the left. */
static void legend(FILE *out, const chart *c, const frame *f) {
    double right = f->right - 4, key = c->legend_left ? f->left + 10 : right - 16;
    double step = c->n_series > 12 ? 13.5 : 17;
    for (int s = 0; s < c->n_series && c->n_series > 1; s++) {
        char stroke[80], attributes[100];
        double y = TOP + (c->limit > 0 ? 36 : 12) + step * s;
        snprintf(attributes, sizeof attributes, "%s stroke-width=\"3\"", stroke_of(s, stroke));
        if (c->legend_left) text(out, key + 22, y + 4, "start", c->series[s].name, "key");
        else text(out, right - 22, y + 4, "end", c->series[s].name, "key");
        line(out, key, y, key + 16, y, attributes);
    }
}

static void limit(FILE *out, const chart *c, const frame *f) {
    if (!(c->limit > 0)) return;
    double y = pixel_y(f, c->limit);
    line(out, f->left, y, f->right, y, "class=\"limit\"");
    text(out, f->right - 4, y - 5, "end", c->limit_name, "key");
}

void chart_write(FILE *out, const chart *charts, int n, const char *caption) {
    int width = n * WIDTH, height = HEIGHT + (caption ? CAPTION : 0);
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\"", width, height);
    fprintf(out, " width=\"%d\" height=\"%d\"", width, height);
    fprintf(out, " font-family=\"system-ui,sans-serif\" font-size=\"12\">\n%s", style);
    fprintf(out, "<rect class=\"page\" width=\"%d\" height=\"%d\"/>\n", width, height);
    for (int i = 0; i < n; i++) {
        frame f = fit(&charts[i], (double)(i * WIDTH));
        axes(out, &charts[i], &f);
        for (int s = 0; s < charts[i].n_series; s++)
            curve(out, &charts[i].series[s], &f, s);
        limit(out, &charts[i], &f);
        legend(out, &charts[i], &f);
    }
    if (caption) text(out, 12, HEIGHT + 12, "start", caption, "note");
    fputs("</svg>\n", out);
}
