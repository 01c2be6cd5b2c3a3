/* chart.c: line charts as SVG (chart.h). Colours are those of Okabe & Ito (2008), told apart by the colour-blind as well. */
#include "chart.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 460, HEIGHT = 340, LEFT = 62, RIGHT = 18, TOP = 44, BOTTOM = 52 };
static const char *const colours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};
enum { N_COLOURS = sizeof colours / sizeof *colours };

static void text(FILE *out, double x, double y, const char *anchor, const char *what, const char *more) {
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\"%s>", x, y, anchor, more);
    for (; *what; what++) fprintf(out, *what == '<' ? "&lt;" : *what == '&' ? "&amp;" : "%c", *what);
    fputs("</text>\n", out);
}

/* A number as people write it: 12000 is 12k. */
static const char *label(double v, char buf[24]) {
    if (v >= 1e6) snprintf(buf, 24, "%gM", v / 1e6);
    else if (v >= 1024 && fmod(v, 1024) == 0) snprintf(buf, 24, "%gk", v / 1024);
    else if (v >= 10000) snprintf(buf, 24, "%gk", v / 1000);
    else snprintf(buf, 24, "%g", v);
    return buf;
}

/* A step of 1, 2 or 5 times a power of ten that divides the range into 4 to 8. */
static double nice_step(double range) {
    double power = pow(10, floor(log10(range / 4))), part = range / 4 / power;
    return power * (part >= 5 ? 5 : part >= 2 ? 2 : 1);
}

typedef struct frame { double left, x0, x1, y1; int log_x; } frame;
static double at_x(const frame *f, double x) {
    double a = f->log_x ? log2(f->x0) : f->x0, b = f->log_x ? log2(f->x1) : f->x1, v = f->log_x ? log2(x) : x;
    return f->left + LEFT + (b > a ? (v - a) / (b - a) : 0.5) * (WIDTH - LEFT - RIGHT);
}
static double at_y(const frame *f, double y) { return HEIGHT - BOTTOM - y / f->y1 * (HEIGHT - TOP - BOTTOM); }

static frame fit(const chart *c, double left) {
    frame f = {left, HUGE_VAL, -HUGE_VAL, 0, c->log_x};
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

static void axes(FILE *out, const chart *c, const frame *f) {
    char buf[24];
    double step = nice_step(f->y1), low = HEIGHT - BOTTOM;
    for (double y = 0; y <= f->y1 * 1.0001; y += step) {
        fprintf(out, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", f->left + LEFT, f->left + WIDTH - RIGHT, at_y(f, y), at_y(f, y));
        text(out, f->left + LEFT - 8, at_y(f, y) + 4, "end", label(y, buf), "");
    }
    double last = -1e9;
    for (int i = 0; c->n_series && i < c->series[0].n; i++) { /* ticks where the first series has points, as far as they fit */
        double x = at_x(f, c->series[0].x[i]);
        if (fabs(x - last) < 30) continue;
        fprintf(out, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", x, x, low, low + 5);
        text(out, x, low + 19, "middle", label(c->series[0].x[i], buf), "");
        last = x;
    }
    fprintf(out, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>\n", f->left + LEFT, f->left + WIDTH - RIGHT, low, low);
    text(out, f->left + LEFT, TOP - 22, "start", c->title, " class=\"title\"");
    text(out, f->left + LEFT, TOP - 6, "start", c->y_label, " class=\"note\"");
    text(out, f->left + WIDTH - RIGHT, HEIGHT - 14, "end", c->x_label, " class=\"note\"");
}

static void curve(FILE *out, const chart_series *s, const frame *f, const char *colour) {
    fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2.2\" points=\"", colour);
    for (int i = 0; i < s->n; i++) fprintf(out, "%.1f,%.1f ", at_x(f, s->x[i]), at_y(f, s->y[i]));
    fputs("\"/>\n", out);
    for (int i = 0; i < s->n; i++) {
        fprintf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.4\" fill=\"%s\"><title>", at_x(f, s->x[i]), at_y(f, s->y[i]), colour);
        fprintf(out, "%s: %g, %.4g</title></circle>\n", s->name, s->x[i], s->y[i]);
    }
}

/* Names and colours, below the left end of the frame where decoding curves are rarely, or at the right. */
static void legend(FILE *out, const chart *c, const frame *f) {
    double right = f->left + WIDTH - RIGHT - 4;
    for (int s = 0; s < c->n_series && c->n_series > 1; s++) {
        double y = TOP + 12 + 17 * s;
        text(out, right - 22, y + 4, "end", c->series[s].name, " class=\"key\"");
        fprintf(out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"3\"/>\n", right - 16, right, y, y, colours[s % N_COLOURS]);
    }
}

void chart_write(FILE *out, const chart *charts, int n, const char *caption) {
    int width = n * WIDTH, height = HEIGHT + (caption ? 22 : 0);
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" font-family=\"system-ui,sans-serif\" font-size=\"12\">\n",
            width, height, width, height);
    fputs("<style>text{fill:#222}.title{font-size:14px;font-weight:600}.note{fill:#555;font-size:11px}.grid{stroke:#ddd}.axis{stroke:#666}"
          ".page{fill:#fff}.key{paint-order:stroke;stroke:#fff;stroke-width:4px}"
          "@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.note{fill:#aaa}.grid{stroke:#3a3a3a}.axis{stroke:#999}.page{fill:#15181c}"
          ".key{stroke:#15181c}}</style>\n", out);
    fprintf(out, "<rect class=\"page\" width=\"%d\" height=\"%d\"/>\n", width, height);
    for (int i = 0; i < n; i++) {
        frame f = fit(&charts[i], (double)(i * WIDTH));
        axes(out, &charts[i], &f);
        for (int s = 0; s < charts[i].n_series; s++) curve(out, &charts[i].series[s], &f, colours[s % N_COLOURS]);
        legend(out, &charts[i], &f);
    }
    if (caption) text(out, 12, HEIGHT + 12, "start", caption, " class=\"note\"");
    fputs("</svg>\n", out);
}
