/* machine.h: what this machine can do at best, measured: what `run bench` compares with. */
#ifndef GQA_MACHINE_H
#define GQA_MACHINE_H

typedef struct machine_limits {
    int n_threads;       /* that reach the following, a second */
    double read_bytes;   /* bytes read from memory far larger than the caches */
    double float_ops;    /* f32 multiply-adds, from registers */
    double int8_ops;     /* int8 multiply-adds, from registers, by the kernels' instructions */
    double bf16_ops;     /* of bf16; NaN: not asked for, or not on this CPU */
} machine_limits;

/* The threads and the buffer to measure with. isa as in gqa_model_options. NULL: out of memory, or
 * there is no such isa. */
typedef struct machine machine;
machine *machine_new(int n_threads, const char *isa, int with_bf16);
void machine_free(machine *m);
/* Best of `rounds` rounds of about 50 ms each. */
void machine_measure(machine *m, int rounds, machine_limits *out);

/* f32 multiply-adds a second, from registers, of n_threads (0: one per physical core). */
double machine_float_rate(int n_threads);

/* Compares the matrix products of that instruction set with plain double loops over dequantised
 * numbers, for a weight type. Returns the largest error relative to the size of the sum, or -1 when
 * out of memory. *what names the product with that error. */
double machine_self_check(const char *isa, int weight_type, const char **what);

#endif
