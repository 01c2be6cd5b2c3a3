/* chart.h: line charts as SVG, side by side, legible on light and dark pages. */
#ifndef GQA_CHART_H
#define GQA_CHART_H

#include <stdio.h>

typedef struct chart_series {
    const char *name;
    const double *x, *y;   /* [n] */
    int n;
} chart_series;

typedef enum chart_scale {
    SCALE_ZERO,            /* y: from 0; x: from its least */
    SCALE_RANGE,           /* from the least to the largest */
    SCALE_LOG,             /* logarithmic, with ticks at the data's own x */
    SCALE_BYTES            /* logarithmic, with ticks at powers of two bytes */
} chart_scale;

typedef struct chart {
    const char *title, *x_label, *y_label;
    chart_scale x, y;
    int legend_left;       /* else at the upper right */
    double limit;          /* a dashed line at that y, 0: none */
    const char *limit_name;
    chart_series series[16];
    int n_series;
} chart;

/* Text between the elements of XML and HTML. */
void chart_text(FILE *out, const char *text);
/* Writes n charts in one row as one SVG document. */
void chart_write(FILE *out, const chart *charts, int n, const char *caption);

#endif
