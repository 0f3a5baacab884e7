/* What happens to single rows between the products of a layer, forward and backward, in one pass over memory each.

   Rows of bfloat16 may be parts of wider ones: `stride` counts elements from one to the next. n is a multiple of 16. */
#include "lanes.h"
#include <math.h>
#include <string.h>

#define ROWS _Pragma("omp parallel for schedule(static)")

/* y = x / rms(x) · weight (Zhang & Sennrich 2019), and rstd = 1 / rms(x). */
void norm_forward(const float *x, const float *weight, float eps, int n_rows, int n, bf16 *y, int64_t stride, float *rstd) {
    ROWS
    for (int r = 0; r < n_rows; r++) {
        const float *from = x + (int64_t)r * n;
        bf16 *to = y + r * stride;
        __m512 a = _mm512_setzero_ps();
        for (int i = 0; i < n; i += 16) a = _mm512_fmadd_ps(_mm512_loadu_ps(from + i), _mm512_loadu_ps(from + i), a);
        rstd[r] = 1.0f / sqrtf(_mm512_reduce_add_ps(a) / n + eps);
        const __m512 by = _mm512_set1_ps(rstd[r]);
        for (int i = 0; i < n; i += 16) narrow(to + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(from + i), by), _mm512_loadu_ps(weight + i)));
    }
}

/* dx = the gradient through the norm, and what came past it (or null). */
void norm_backward(const bf16 *dy, int64_t stride, const float *x, const float *weight, const float *rstd, const float *past, int n_rows, int n, float *dx) {
    ROWS
    for (int r = 0; r < n_rows; r++) {
        const bf16 *d = dy + r * stride;
        const float *from = x + (int64_t)r * n, *add = past ? past + (int64_t)r * n : NULL;
        float *to = dx + (int64_t)r * n;
        __m512 a = _mm512_setzero_ps();
        for (int i = 0; i < n; i += 16) a = _mm512_fmadd_ps(_mm512_mul_ps(widen(d + i), _mm512_loadu_ps(weight + i)), _mm512_loadu_ps(from + i), a);
        const __m512 by = _mm512_set1_ps(rstd[r]), less = _mm512_set1_ps(_mm512_reduce_add_ps(a) / n * rstd[r] * rstd[r]);
        for (int i = 0; i < n; i += 16) {
            __m512 g = _mm512_mul_ps(widen(d + i), _mm512_loadu_ps(weight + i));
            g = _mm512_fnmadd_ps(_mm512_loadu_ps(from + i), less, g);
            _mm512_storeu_ps(to + i, add ? _mm512_fmadd_ps(g, by, _mm512_loadu_ps(add + i)) : _mm512_mul_ps(g, by));
        }
    }
}

/* y = x + what a product gave. */
void add_rows(const float *x, const bf16 *part, int n_rows, int n, float *y) {
    ROWS
    for (int r = 0; r < n_rows; r++)
        for (int64_t i = (int64_t)r * n; i < (int64_t)(r + 1) * n; i += 16) _mm512_storeu_ps(y + i, _mm512_add_ps(_mm512_loadu_ps(x + i), widen(part + i)));
}

/* Heads of 2 · half rotated by the angles, or back by turn = -1 (Su et al. 2021, arXiv 2104.09864), halves paired. `from` may be `to`. */
void rotate_heads(const bf16 *from, int64_t from_stride, const float *cos, const float *sin, int64_t angle_stride, float turn, int n_rows,
                  int heads, int half, bf16 *to, int64_t to_stride) {
    const __m512 sign = _mm512_set1_ps(turn);
    ROWS
    for (int r = 0; r < n_rows; r++)
        for (int h = 0; h < heads; h++) {
            const bf16 *x = from + r * from_stride + h * 2 * half;
            bf16 *y = to + r * to_stride + h * 2 * half;
            for (int i = 0; i < half; i += 16) {
                const __m512 a = widen(x + i), b = widen(x + half + i), c = _mm512_loadu_ps(cos + r * angle_stride + i);
                const __m512 s = _mm512_mul_ps(sign, _mm512_loadu_ps(sin + r * angle_stride + i));
                narrow(y + i, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
                narrow(y + half + i, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
            }
        }
}

INLINE __m512 sigmoid(__m512 x) {
    const __m512 one = _mm512_set1_ps(1.0f);
    return _mm512_div_ps(one, _mm512_add_ps(one, exponential(_mm512_min_ps(_mm512_sub_ps(_mm512_setzero_ps(), x), _mm512_set1_ps(88.0f)))));
}

/* silu(gate) · up of rows (gate, up). */
void gate_forward(const bf16 *gate_up, int n_rows, int n, bf16 *y, int64_t stride) {
    ROWS
    for (int r = 0; r < n_rows; r++)
        for (int i = 0; i < n; i += 16) {
            const bf16 *from = gate_up + (int64_t)r * 2 * n + i;
            const __m512 g = widen(from);
            narrow(y + r * stride + i, _mm512_mul_ps(_mm512_mul_ps(g, sigmoid(g)), widen(from + n)));
        }
}

/* Gradients (gate, up) from that of their gated product, which takes its gradient's place. */
void gate_backward(bf16 *dy, int64_t stride, const bf16 *gate_up, int n_rows, int n, bf16 *dx) {
    const __m512 one = _mm512_set1_ps(1.0f);
    ROWS
    for (int r = 0; r < n_rows; r++)
        for (int i = 0; i < n; i += 16) {
            const int64_t at = (int64_t)r * 2 * n + i;
            const __m512 g = widen(gate_up + at), up = widen(gate_up + at + n), d = widen(dy + r * stride + i), s = sigmoid(g);
            const __m512 slope = _mm512_mul_ps(s, _mm512_fmadd_ps(g, _mm512_sub_ps(one, s), one)), silu = _mm512_mul_ps(g, s);
            narrow(dx + at, _mm512_mul_ps(_mm512_mul_ps(d, up), slope));
            narrow(dx + at + n, _mm512_mul_ps(d, silu));
            narrow(dy + r * stride + i, _mm512_mul_ps(silu, up));
        }
}

INLINE __mmask16 left(int n) { return n >= 16 ? 0xffff : (1u << n) - 1; }

/* Logits (rows, n), any n, become the gradient of weight · -log softmax(logits)[target]. `losses`: that, row by row;
   `best`: the first of the largest logits. */
void loss_rows(bf16 *logits, const int64_t *targets, const float *weights, int n_rows, int n, float *losses, int32_t *best) {
    ROWS
    for (int r = 0; r < n_rows; r++) {
        bf16 *z = logits + (int64_t)r * n;
        const __m512 low = _mm512_set1_ps(-INFINITY);
        __m512 top = low, sum = _mm512_setzero_ps();
        for (int i = 0; i < n; i += 16) {
            const __mmask16 m = left(n - i);
            __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, z + i)), 16);
            top = _mm512_mask_max_ps(top, m, top, _mm512_castsi512_ps(wide));
        }
        const float highest = _mm512_reduce_max_ps(top);
        const uint32_t target = (uint32_t)z[targets[r]] << 16;
        float of_target;
        memcpy(&of_target, &target, sizeof(float));
        int found = n;
        for (int i = 0; i < n; i += 16) {
            const __mmask16 m = left(n - i);
            const __m512 x = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, z + i)), 16));
            const __mmask16 equal = _mm512_mask_cmp_ps_mask(m, x, _mm512_set1_ps(highest), _CMP_EQ_OQ);
            if (equal && found == n) found = i + __builtin_ctz(equal);
            sum = _mm512_mask_add_ps(sum, m, sum, exponential(_mm512_sub_ps(x, _mm512_set1_ps(highest))));
        }
        const float total = _mm512_reduce_add_ps(sum), log_total = highest + logf(total);
        best[r] = found;
        losses[r] = weights[r] * (log_total - of_target);
        const __m512 by = _mm512_set1_ps(weights[r] / total);
        for (int i = 0; i < n; i += 16) {
            const __mmask16 m = left(n - i);
            const __m512 x = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, z + i)), 16));
            const __m512 d = _mm512_mul_ps(exponential(_mm512_sub_ps(x, _mm512_set1_ps(highest))), by);
            _mm256_mask_storeu_epi16(z + i, m, (__m256i)_mm512_cvtneps_pbh(d));
        }
        const float d = weights[r] * (expf(of_target - highest) / total - 1.0f);
        bf16 own[16];
        narrow(own, _mm512_set1_ps(d));
        z[targets[r]] = own[0];
    }
}
