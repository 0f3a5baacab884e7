/* y = x W' (or y += x W'), for few rows of x and each row's own low-rank adapter.

   W is laid out in blocks of 32 outputs: for every pair of inputs, 32 pairs of weights in a row, as the processor's
   dot product of bfloat16 pairs takes them. Reading the weights is what a product of few rows costs, and each is read
   once, in order. Sums are float32. Adapters: low = x A', then y += low B', in the rows that use them. */
#include "lanes.h"
#include <omp.h>

typedef int32_t __attribute__((may_alias)) Pair; /* two inputs read as one number */

#define BLOCK 32
#define TILE 14 /* rows at once: 28 sums, 2 weights and 1 input fill the registers */

/* ranges: per block the first and the last + 1 pair of inputs that has a weight other than zero. */
typedef struct { const bf16 *data; const int32_t *ranges; int32_t n_out, n_in; } Weights;
typedef struct { const Weights *into, *out_of; } Adapter; /* NULL: it leaves this product alone */
typedef struct { const int32_t *rows; int32_t n_rows; } Members; /* the rows that use an adapter */
typedef struct { const bf16 *x; int64_t x_stride; float *y; int64_t y_stride; bf16 *low; int64_t low_stride; int32_t n_rows; } Operands;

INLINE void tile(const int R, const bf16 *w, int from, int to, const bf16 *const *x, __m512 *sums) {
    __m512 s[2 * TILE];
#pragma GCC unroll 28
    for (int r = 0; r < 2 * R; r++) s[r] = _mm512_setzero_ps();
    for (int k = from; k < to; k++) {
        __m512bh w0 = pairs(w + (int64_t)k * 64), w1 = pairs(w + (int64_t)k * 64 + 32);
#pragma GCC unroll 14
        for (int r = 0; r < R; r++) {
            __m512bh pair = (__m512bh)_mm512_set1_epi32(((const Pair *)x[r])[k]);
            s[2 * r] = _mm512_dpbf16_ps(s[2 * r], w0, pair);
            s[2 * r + 1] = _mm512_dpbf16_ps(s[2 * r + 1], w1, pair);
        }
    }
#pragma GCC unroll 28
    for (int r = 0; r < 2 * R; r++) sums[r] = s[r];
}

static void sums_of(int R, const bf16 *w, int from, int to, const bf16 *const *x, __m512 *sums) {
    switch (R) {
#define CASE(n) case n: tile(n, w, from, to, x, sums); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13) CASE(14)
    }
}

/* One block of outputs for all rows (rows: which, or NULL for all in order), into y or, rounded, into low. */
static void block(const Weights *w, int b, const bf16 *x, int64_t x_stride, const int32_t *rows, int n_rows, float *y,
                  int64_t y_stride, int add, bf16 *low, int64_t low_stride) {
    const bf16 *data = w->data + (int64_t)b * w->n_in * BLOCK;
    const int from = w->ranges[2 * b], to = w->ranges[2 * b + 1], at = b * BLOCK;
    const int left = w->n_out - at;
    const __mmask16 m0 = left >= 16 ? 0xffff : (1u << left) - 1, m1 = left >= 32 ? 0xffff : left <= 16 ? 0 : (1u << (left - 16)) - 1;
    if (add && from >= to) return;
    const int n_tiles = (n_rows + TILE - 1) / TILE;
    for (int t = 0; t < n_tiles; t++) {
        const int first = (int)((int64_t)n_rows * t / n_tiles), end = (int)((int64_t)n_rows * (t + 1) / n_tiles);
        const bf16 *xs[TILE];
        __m512 sums[2 * TILE];
        for (int r = first; r < end; r++) xs[r - first] = x + (rows ? rows[r] : r) * x_stride;
        sums_of(end - first, data, from, to, xs, sums);
        for (int r = first; r < end; r++) {
            const int64_t row = rows ? rows[r] : r;
            __m512 s0 = sums[2 * (r - first)], s1 = sums[2 * (r - first) + 1];
            if (low) { /* its rows have room for whole blocks */
                narrow(low + row * low_stride + at, s0);
                narrow(low + row * low_stride + at + 16, s1);
                continue;
            }
            float *to_y = y + row * y_stride + at;
            if (add) {
                s0 = _mm512_add_ps(s0, _mm512_maskz_loadu_ps(m0, to_y));
                s1 = _mm512_add_ps(s1, _mm512_maskz_loadu_ps(m1, to_y + 16));
            }
            _mm512_mask_storeu_ps(to_y, m0, s0);
            _mm512_mask_storeu_ps(to_y + 16, m1, s1);
        }
    }
}

void product(const Operands *o, const Weights *base, const Adapter *adapters, const Members *members, int n_adapters, int add) {
    const int n_blocks = (base->n_out + BLOCK - 1) / BLOCK;
#pragma omp parallel
    {
        const int me = omp_get_thread_num(), all = omp_get_num_threads();
        int task = 0;
        for (int a = 0; a < n_adapters; a++) {
            const Weights *into = adapters[a].into;
            for (int b = 0; into && b * BLOCK < into->n_out; b++)
                if (task++ % all == me)
                    block(into, b, o->x, o->x_stride, members[a].rows, members[a].n_rows, 0, 0, 0, o->low, o->low_stride);
        }
        if (n_adapters) {
#pragma omp barrier
        }
        for (int b = n_blocks * me / all; b < n_blocks * (me + 1) / all; b++) {
            block(base, b, o->x, o->x_stride, 0, o->n_rows, o->y, o->y_stride, add, 0, 0);
            for (int a = 0; a < n_adapters; a++) {
                const Weights *out_of = adapters[a].out_of;
                if (out_of) block(out_of, b, o->low, o->low_stride, members[a].rows, members[a].n_rows, o->y, o->y_stride, 1, 0, 0);
            }
        }
    }
}
