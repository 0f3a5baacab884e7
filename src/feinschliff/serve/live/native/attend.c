/* Attention of rows that each add one token to a conversation, over keys and values in its slot.

   Conversations that begin alike are taken together: the common keys and values are read from one slot, a few at a time,
   while they are in the first-level cache. Scores and sums are float32. */
#include "lanes.h"
#include <math.h>
#include <omp.h>
#include <stdlib.h>

#define KEYS 16    /* scored at once, one a lane */
#define NEAR 64    /* keys that stay in the first-level cache while all of a group read them */

/* A group has the first `common` tokens (a multiple of KEYS) in common, which are read from slot `leader`. */
typedef struct { int32_t leader, common, first, n; } Group; /* members: rows order[first] … order[first + n - 1] */
typedef struct {
    const bf16 *q, *keys, *values; /* q: rows of heads of d; keys, values: slots of key heads of `capacity` places of d */
    bf16 *out;                     /* as q */
    const int32_t *slots, *lengths, *order; /* per row; lengths with the new token */
    const Group *groups;
    int64_t capacity;
    int32_t n_groups, heads, key_heads, d, window; /* window: 0 for none */
    float scale;
} Attention;

/* Each of sixteen vectors summed up, in its own lane. */
INLINE __m512 lanes_of_sums(const __m512 *a) {
    __m512 t[8], u[4];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) t[i] = _mm512_add_ps(_mm512_unpacklo_ps(a[2 * i], a[2 * i + 1]), _mm512_unpackhi_ps(a[2 * i], a[2 * i + 1]));
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512d x = _mm512_castps_pd(t[2 * i]), y = _mm512_castps_pd(t[2 * i + 1]);
        u[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    }
    __m512 v = _mm512_add_ps(_mm512_shuffle_f32x4(u[0], u[1], 0x88), _mm512_shuffle_f32x4(u[0], u[1], 0xdd));
    __m512 w = _mm512_add_ps(_mm512_shuffle_f32x4(u[2], u[3], 0x88), _mm512_shuffle_f32x4(u[2], u[3], 0xdd));
    return _mm512_add_ps(_mm512_shuffle_f32x4(v, w, 0x88), _mm512_shuffle_f32x4(v, w, 0xdd));
}

INLINE void score(const int D, const bf16 *q, const bf16 *keys, int from, int to, __m512 scale, float *scores) {
    for (int k = from; k < to; k += KEYS) {
        __m512 a[KEYS];
#pragma GCC unroll 16
        for (int i = 0; i < KEYS; i++) {
            a[i] = _mm512_setzero_ps();
            for (int j = 0; j < D; j += 32) a[i] = _mm512_dpbf16_ps(a[i], pairs(q + j), pairs(keys + (int64_t)(k + i) * D + j));
        }
        _mm512_storeu_ps(scores + k, _mm512_mul_ps(lanes_of_sums(a), scale));
    }
}

/* Weights from scores [from, to); those before, from the tile's beginning on, become 0. Returns 1 / their sum. */
static float soften(float *scores, int from, int to) {
    const int begin = from / KEYS * KEYS;
    const __m512 low = _mm512_set1_ps(-INFINITY);
    for (int i = begin; i < from; i++) scores[i] = -INFINITY;
    __m512 top = low, sum = _mm512_setzero_ps();
    for (int i = begin; i < to; i += KEYS) {
        __mmask16 m = to - i >= KEYS ? 0xffff : (1u << (to - i)) - 1;
        top = _mm512_max_ps(top, _mm512_mask_loadu_ps(low, m, scores + i));
    }
    const __m512 highest = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    for (int i = begin; i < to; i += KEYS) {
        __mmask16 m = to - i >= KEYS ? 0xffff : (1u << (to - i)) - 1;
        __m512 e = exponential(_mm512_sub_ps(_mm512_mask_loadu_ps(low, m, scores + i), highest));
        e = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(_mm512_mask_loadu_ps(low, m, scores + i), low, _CMP_GT_OQ), e);
        sum = _mm512_add_ps(sum, e);
        _mm512_storeu_ps(scores + i, e);
    }
    return 1.0f / _mm512_reduce_add_ps(sum);
}

/* sums (G, D) += weights (G, keys) · values (keys, D) for keys [from, to); rows of weights are `stride` apart. */
INLINE void gather(const int D, const int G, const float *weights, int64_t stride, const bf16 *values, int from, int to, float *sums) {
    __m512 s[16];
#pragma GCC unroll 16
    for (int i = 0; i < G * D / 16; i++) s[i] = _mm512_loadu_ps(sums + 16 * i);
    for (int k = from; k < to; k++) {
        __m512 p[4];
#pragma GCC unroll 4
        for (int g = 0; g < G; g++) p[g] = _mm512_set1_ps(weights[g * stride + k]);
#pragma GCC unroll 16
        for (int j = 0; j < D / 16; j++) {
            __m512 v = widen(values + (int64_t)k * D + 16 * j);
#pragma GCC unroll 4
            for (int g = 0; g < G; g++) s[g * (D / 16) + j] = _mm512_fmadd_ps(p[g], v, s[g * (D / 16) + j]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < G * D / 16; i++) _mm512_storeu_ps(sums + 16 * i, s[i]);
}

INLINE void gather_all(const int D, int n, const float *weights, int64_t stride, const bf16 *values, int from, int to, float *sums) {
    const int most = D <= 64 ? 4 : D <= 128 ? 2 : 1;
    for (int g = 0; g < n;) {
        const int G = n - g < most ? n - g : most;
        const float *w = weights + g * stride;
        float *s = sums + (int64_t)g * D;
        if (G == 4) gather(D, D <= 64 ? 4 : 1, w, stride, values, from, to, s);
        else if (G == 3) gather(D, D <= 64 ? 3 : 1, w, stride, values, from, to, s);
        else if (G == 2) gather(D, D <= 128 ? 2 : 1, w, stride, values, from, to, s);
        else gather(D, 1, w, stride, values, from, to, s);
        g += G;
    }
}

INLINE int first_key(const Attention *a, int length) { return a->window && length > a->window ? length - a->window : 0; }

/* One key head of one group; `scratch` holds scores and sums of all its members. */
INLINE void one_group(const int D, const Attention *a, const Group *group, int head, float *scratch, int64_t stride) {
    const int G = a->heads / a->key_heads, n = group->n;
    const __m512 scale = _mm512_set1_ps(a->scale);
    const int64_t leader = ((int64_t)group->leader * a->key_heads + head) * a->capacity * D;
    float *sums = scratch + n * G * stride;
    for (int i = 0; i < n * G * D; i++) sums[i] = 0.0f;
#define ROW(m) a->order[group->first + (m)]
#define QUERY(m, g) a->q + ((int64_t)ROW(m) * a->heads + head * G + (g)) * D
#define OWN(m) ((int64_t)a->slots[ROW(m)] * a->key_heads + head) * a->capacity * D
    for (int k = 0; k < group->common; k += NEAR) {
        const int to = k + NEAR < group->common ? k + NEAR : group->common;
        for (int m = 0; m < n; m++)
            for (int g = 0; g < G; g++) score(D, QUERY(m, g), a->keys + leader, k, to, scale, scratch + (m * G + g) * stride);
    }
    for (int m = 0; m < n; m++) {
        const int length = a->lengths[ROW(m)], low = first_key(a, length), own = low / KEYS * KEYS;
        const int from = own > group->common ? own : group->common;
        for (int g = 0; g < G; g++) {
            float *scores = scratch + (m * G + g) * stride;
            score(D, QUERY(m, g), a->keys + OWN(m), from, length, scale, scores);
            const float by = soften(scores, low, length);
            for (int i = 0; i < own && i < group->common; i++) scores[i] = 0.0f; /* out of the window */
            for (int i = own; i < length; i++) scores[i] *= by;
        }
        gather_all(D, G, scratch + m * G * stride, stride, a->values + OWN(m), from, length, sums + (int64_t)m * G * D);
    }
    for (int k = 0; k < group->common; k += NEAR) {
        const int to = k + NEAR < group->common ? k + NEAR : group->common;
        for (int m = 0; m < n; m++)
            gather_all(D, G, scratch + m * G * stride, stride, a->values + leader, k, to, sums + (int64_t)m * G * D);
    }
    for (int m = 0; m < n; m++) {
        bf16 *to = a->out + ((int64_t)ROW(m) * a->heads + head * G) * D;
        for (int i = 0; i < G * D; i += 16) narrow(to + i, _mm512_loadu_ps(sums + (int64_t)m * G * D + i));
    }
}

/* d is 32, 64, 96, 128 or 256. Returns 0, or 1 where there is no memory. */
int attend(const Attention *a) {
    int most = 0, longest = 0, failed = 0;
    for (int i = 0; i < a->n_groups; i++) {
        most = a->groups[i].n > most ? a->groups[i].n : most;
        for (int m = 0; m < a->groups[i].n; m++) {
            const int length = a->lengths[a->order[a->groups[i].first + m]];
            longest = length > longest ? length : longest;
        }
    }
    const int64_t stride = (longest + KEYS - 1) / KEYS * KEYS + KEYS;
    const size_t room = (size_t)most * (a->heads / a->key_heads) * (stride + a->d) * sizeof(float);
#pragma omp parallel
    {
        float *scratch = malloc(room);
        if (!scratch) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < a->n_groups * a->key_heads; i++) {
            const Group *group = a->groups + i / a->key_heads;
            const int head = i % a->key_heads;
            if (!scratch) continue;
            switch (a->d) {
#define CASE(D) case D: one_group(D, a, group, head, scratch, stride); break;
                CASE(32) CASE(64) CASE(96) CASE(128) CASE(256)
            }
        }
        free(scratch);
    }
    return failed;
}
