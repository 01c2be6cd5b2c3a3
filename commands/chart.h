/* chart.h: line charts as SVG, side by side, legible on light and dark pages. */
#ifndef GQA_CHART_H
#define GQA_CHART_H

#include <stdio.h>

typedef struct chart_series {
    const char *name;
    const double *x, *y;   /* [n] */
    int n;
} chart_series;

typedef struct chart {
    const char *title, *x_label, *y_label;
    int log_x;             /* powers of two, with ticks at the data's own x */
    chart_series series[16];
    int n_series;
} chart;

/* Writes n charts in one row as one SVG document. */
void chart_write(FILE *out, const chart *charts, int n, const char *caption);

#endif
