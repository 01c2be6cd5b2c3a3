/* chart.c: line charts as SVG (chart.h). The colours are those of Okabe & Ito (2008), which the
 * colour-blind can tell apart as well. */
#include "chart.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 460, HEIGHT = 340, LEFT = 62, RIGHT = 18, TOP = 44, BOTTOM = 52, CAPTION = 22 };
static const char *const colours[] = {
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
};
enum { N_COLOURS = sizeof colours / sizeof *colours };

static const char style[] =
    "<style>text{fill:#222}.title{font-size:14px;font-weight:600}.note{fill:#555;font-size:11px}"
    ".grid{stroke:#ddd}.axis{stroke:#666}.page{fill:#fff}"
    ".key{paint-order:stroke;stroke:#fff;stroke-width:4px}"
    "@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.note{fill:#aaa}.grid{stroke:#3a3a3a}"
    ".axis{stroke:#999}.page{fill:#15181c}.key{stroke:#15181c}}</style>\n";

/* The ranges of a chart, and where it stands. */
typedef struct frame {
    double left, right;          /* of the plot, in pixels; it begins at TOP */
    double bottom;
    double x0, x1, y1;           /* the values at its edges; y begins at 0 */
    int log_x;
} frame;

/* ---- elements ------------------------------------------------------------------------------- */

/* kind: its class, or NULL. */
static void text(FILE *out, double x, double y, const char *anchor, const char *what,
                 const char *kind) {
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"", x, y, anchor);
    if (kind) fprintf(out, " class=\"%s\"", kind);
    fputc('>', out);
    for (; *what; what++) {
        if (*what == '<') fputs("&lt;", out);
        else if (*what == '&') fputs("&amp;", out);
        else fputc(*what, out);
    }
    fputs("</text>\n", out);
}

/* attributes: of the class or the stroke. */
static void line(FILE *out, double x1, double y1, double x2, double y2, const char *attributes) {
    fprintf(out, "<line %s x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", attributes, x1, x2,
            y1, y2);
}

/* A number as people write it: 12000 is 12k. */
static const char *label(double v, char buf[24]) {
    if (v >= 1e6) snprintf(buf, 24, "%gM", v / 1e6);
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

static double pixel_x(const frame *f, double x) {
    double low = f->log_x ? log2(f->x0) : f->x0, high = f->log_x ? log2(f->x1) : f->x1;
    double share = high > low ? ((f->log_x ? log2(x) : x) - low) / (high - low) : 0.5;
    return f->left + share * (f->right - f->left);
}

static double pixel_y(const frame *f, double y) {
    return f->bottom - y / f->y1 * (f->bottom - TOP);
}

/* The frame that holds all series of a chart that begins at `left`. */
static frame fit(const chart *c, double left) {
    frame f = {
        .left = left + LEFT, .right = left + WIDTH - RIGHT, .bottom = HEIGHT - BOTTOM,
        .x0 = HUGE_VAL, .x1 = -HUGE_VAL, .log_x = c->log_x,
    };
    for (int s = 0; s < c->n_series; s++)
        for (int i = 0; i < c->series[s].n; i++) {
            f.x0 = fmin(f.x0, c->series[s].x[i]);
            f.x1 = fmax(f.x1, c->series[s].x[i]);
            f.y1 = fmax(f.y1, c->series[s].y[i]);
        }
    double step = f.y1 > 0 ? nice_step(f.y1) : 1;
    f.y1 = f.y1 > 0 ? ceil(f.y1 / step) * step : 1;
    return f;
}

/* ---- the chart ------------------------------------------------------------------------------ */

static void axes(FILE *out, const chart *c, const frame *f) {
    char buf[24];
    double step = nice_step(f->y1);
    for (double y = 0; y <= f->y1 * 1.0001; y += step) {
        line(out, f->left, pixel_y(f, y), f->right, pixel_y(f, y), "class=\"grid\"");
        text(out, f->left - 8, pixel_y(f, y) + 4, "end", label(y, buf), NULL);
    }
    double last = -1e9;
    int n_ticks = c->n_series ? c->series[0].n : 0; /* at the points of the first series */
    for (int i = 0; i < n_ticks; i++) {
        double x = pixel_x(f, c->series[0].x[i]);
        if (fabs(x - last) < 30) continue; /* the labels would overlap */
        line(out, x, f->bottom, x, f->bottom + 5, "class=\"axis\"");
        text(out, x, f->bottom + 19, "middle", label(c->series[0].x[i], buf), NULL);
        last = x;
    }
    line(out, f->left, f->bottom, f->right, f->bottom, "class=\"axis\"");
    text(out, f->left, TOP - 22, "start", c->title, "title");
    text(out, f->left, TOP - 6, "start", c->y_label, "note");
    text(out, f->right, HEIGHT - 14, "end", c->x_label, "note");
}

static void curve(FILE *out, const chart_series *s, const frame *f, const char *colour) {
    fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2.2\" points=\"", colour);
    for (int i = 0; i < s->n; i++)
        fprintf(out, "%.1f,%.1f ", pixel_x(f, s->x[i]), pixel_y(f, s->y[i]));
    fputs("\"/>\n", out);
    for (int i = 0; i < s->n; i++) {
        fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.4\" fill=\"%s\">", pixel_x(f, s->x[i]),
                pixel_y(f, s->y[i]), colour);
        fprintf(out, "<title>%s: %g, %.4g</title></circle>\n", s->name, s->x[i], s->y[i]);
    }
}

/* Names and colours, at the upper right, where decoding curves rarely are. */
static void legend(FILE *out, const chart *c, const frame *f) {
    double right = f->right - 4;
    for (int s = 0; s < c->n_series && c->n_series > 1; s++) {
        char stroke[48];
        double y = TOP + 12 + 17 * s;
        snprintf(stroke, sizeof stroke, "stroke=\"%s\" stroke-width=\"3\"", colours[s % N_COLOURS]);
        text(out, right - 22, y + 4, "end", c->series[s].name, "key");
        line(out, right - 16, y, right, y, stroke);
    }
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
            curve(out, &charts[i].series[s], &f, colours[s % N_COLOURS]);
        legend(out, &charts[i], &f);
    }
    if (caption) text(out, 12, HEIGHT + 12, "start", caption, "note");
    fputs("</svg>\n", out);
}
