/* What happens to single rows between products: norms, rotary positions with the way into the slots, gates. */
#include "lanes.h"
#include <math.h>
#include <string.h>

#define FEW 4 /* rows that are not worth a second thread */

/* y = x / rms(x) · weight (Zhang & Sennrich 2019), n a multiple of 16. */
void normalise(const float *x, const float *weight, float eps, int n_rows, int n, bf16 *y) {
#pragma omp parallel for if (n_rows > FEW)
    for (int r = 0; r < n_rows; r++) {
        const float *from = x + (int64_t)r * n;
        __m512 squares = _mm512_setzero_ps();
        for (int i = 0; i < n; i += 16) {
            __m512 v = _mm512_loadu_ps(from + i);
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        const __m512 by = _mm512_set1_ps(1.0f / sqrtf(_mm512_reduce_add_ps(squares) / n + eps));
        for (int i = 0; i < n; i += 16)
            narrow(y + (int64_t)r * n + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(from + i), by), _mm512_loadu_ps(weight + i)));
    }
}

/* One head rotated (Su et al. 2021, arXiv 2104.09864), halves paired; half a multiple of 16. */
INLINE void rotated(const float *x, const float *cos, const float *sin, int half, bf16 *y) {
    for (int i = 0; i < half; i += 16) {
        __m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + half + i);
        __m512 c = _mm512_loadu_ps(cos + i), s = _mm512_loadu_ps(sin + i);
        narrow(y + i, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        narrow(y + half + i, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
}

/* Rows of queries, keys and values (heads of d): queries and keys are rotated; keys and values also go to their places in
   the slots, `places` counting heads of d from the first slot's first head on, `capacity` from one head to the next. */
void rotate_and_keep(const float *qkv, const float *cos, const float *sin, const int64_t *places, int64_t capacity, int n_rows,
                     int heads, int key_heads, int d, bf16 *q, bf16 *k, bf16 *v, bf16 *keys, bf16 *values) {
#pragma omp parallel for if (n_rows > FEW)
    for (int r = 0; r < n_rows; r++) {
        const float *from = qkv + (int64_t)r * (heads + 2 * key_heads) * d, *c = cos + (int64_t)r * (d / 2), *s = sin + (int64_t)r * (d / 2);
        for (int h = 0; h < heads; h++, from += d) rotated(from, c, s, d / 2, q + ((int64_t)r * heads + h) * d);
        for (int h = 0; h < key_heads; h++, from += d) {
            const int64_t own = ((int64_t)r * key_heads + h) * d;
            rotated(from, c, s, d / 2, k + own);
            memcpy(keys + (places[r] + h * capacity) * d, k + own, d * sizeof(bf16));
        }
        for (int h = 0; h < key_heads; h++, from += d) {
            const int64_t own = ((int64_t)r * key_heads + h) * d;
            for (int i = 0; i < d; i += 16) narrow(v + own + i, _mm512_loadu_ps(from + i));
            memcpy(values + (places[r] + h * capacity) * d, v + own, d * sizeof(bf16));
        }
    }
}

/* silu(gate) · up of rows (gate, up), n a multiple of 16. */
void gate(const float *gate_up, int n_rows, int n, bf16 *y) {
    const __m512 one = _mm512_set1_ps(1.0f);
#pragma omp parallel for if (n_rows > FEW)
    for (int r = 0; r < n_rows; r++) {
        const float *from = gate_up + (int64_t)r * 2 * n;
        for (int i = 0; i < n; i += 16) {
            __m512 g = _mm512_loadu_ps(from + i), up = _mm512_loadu_ps(from + n + i);
            __m512 e = exponential(_mm512_sub_ps(_mm512_setzero_ps(), g));
            narrow(y + (int64_t)r * n + i, _mm512_mul_ps(_mm512_div_ps(g, _mm512_add_ps(one, e)), up));
        }
    }
}
