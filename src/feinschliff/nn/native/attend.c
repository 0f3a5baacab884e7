/* Exact attention over a prefix tree, forward and backward, as FlashAttention has it (Dao et al. 2022, arXiv 2205.14135).

   A block of queries meets groups of eight keys; who sees whom is decided key by key from three numbers. Scores stay float32,
   sixteen queries a vector: a key's pair of elements is broadcast against them. Weights are rounded to bfloat16 for the product
   with values. The backward pass makes them again from the log-sum-exps. What several blocks add to (keys, values) is summed up
   per chunk of blocks, and the chunks in their order, so no result depends on which thread did what. */
#include "lanes.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16
#define KEYS 8              /* of a group */
#define PAIRS (KEYS / 2)
#define PANEL 3             /* vectors of queries scored at once */
#define WIDE (PANEL * LANES)
#define TILE 12             /* groups of keys of which the backward pass holds weights */
#define MOST 24             /* vectors of queries that it takes at once, where a query's heads are not more */
#define LOW -1e30f

typedef struct { int32_t start, end, first, n; } Block;   /* queries [start, end) meet groups[first … first + n - 1] */
typedef struct { int32_t first, last, low, high; } Chunk; /* blocks [first, last) touch key places [low, high) */
typedef struct {
    const bf16 *q, *k, *v, *d_out;   /* rows of heads of d */
    int64_t q_row, k_row, v_row, d_row, q_head, k_head, v_head, d_head; /* elements from one to the next */
    bf16 *out, *dq, *dk, *dv;        /* contiguous (tokens, heads, d), (places, key heads, d) */
    float *lse;                      /* (tokens, heads), base 2 */
    float *dk_sums, *dv_sums;        /* (chunks, key heads, padded, d) */
    bf16 *rows; uint32_t *pairs;     /* (key heads, padded, d): keys, or keys then values; values by twos, or keys by twos */
    const int32_t *row, *reach, *position; /* of a key place; a query is row r at key place r + before */
    const int32_t *groups;
    const Block *blocks;
    const Chunk *chunks;
    int32_t n_blocks, n_chunks, n_places, padded, heads, key_heads, d, before, window; /* padded: n_places to whole groups */
    float scale;
} Attention;

/* 2^t for t <= 0, to 3e-6. */
INLINE __m512 power(__m512 t) {
    t = _mm512_max_ps(t, _mm512_set1_ps(-150.0f));
    __m512 whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_sub_ps(t, whole);
    __m512 p = _mm512_set1_ps(1.3333558e-3f);
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.6181291e-3f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5504109e-2f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022651e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314718e-1f));
    p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, whole);
}

INLINE __m512bh both(uint32_t pair) { return (__m512bh)_mm512_set1_epi32(pair); }
INLINE __m512bh at(const uint32_t *from) { return (__m512bh)_mm512_loadu_si512(from); }

/* (low, high) lane by lane, rounded to a pair. */
INLINE __m512i paired(__m512 low, __m512 high) {
    __m512i l = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low)), h = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high));
    return _mm512_or_si512(l, _mm512_slli_epi32(h, 16));
}

INLINE void pair_rows(const int D, const bf16 *first, const bf16 *second, uint32_t *to) {
    for (int i = 0; i < D; i += LANES) {
        __m512i l = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(first + i)));
        __m512i h = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(second + i)));
        _mm512_storeu_si512(to + i, _mm512_or_si512(l, _mm512_slli_epi32(h, 16)));
    }
}

/* Keys or values in rows and by twos, zeros in the places that fill the last group. Either result may be null. */
static void lay(const Attention *a, const bf16 *x, int64_t row, int64_t head, bf16 *rows, uint32_t *pairs) {
    const int D = a->d, groups = a->padded / KEYS;
#pragma omp parallel for collapse(2) schedule(static)
    for (int h = 0; h < a->key_heads; h++)
        for (int g = 0; g < groups; g++) {
            bf16 own[KEYS * 256], *to = rows ? rows + ((int64_t)h * a->padded + g * KEYS) * D : own;
            for (int i = 0; i < KEYS; i++) {
                const int p = g * KEYS + i;
                if (p < a->n_places) memcpy(to + i * D, x + p * row + h * head, D * sizeof(bf16));
                else memset(to + i * D, 0, D * sizeof(bf16));
            }
            if (pairs)
                for (int i = 0; i < KEYS; i += 2)
                    pair_rows(D, to + i * D, to + (i + 1) * D, pairs + (((int64_t)h * a->padded + g * KEYS + i) / 2) * D);
        }
}

/* Sixteen queries of one head. */
typedef struct { int first, n, head; } Lanes;

INLINE Lanes lanes_of(const Attention *a, const Block *b, int key_head, int i) {
    const int G = a->heads / a->key_heads, first = b->start + i / G * LANES;
    return (Lanes){first, b->end - first < LANES ? b->end - first : LANES, key_head * G + i % G};
}

/* Pairs of elements of sixteen rows become columns of a panel: to[pair * WIDE + lane]. */
INLINE void stand(const int D, const bf16 *x, int64_t row, int n, uint32_t *to) {
    for (int l = 0; l < LANES; l++) {
        const uint32_t *from = (const uint32_t *)(x + l * row);
        for (int i = 0; i < D / 2; i++) to[i * WIDE + l] = l < n ? from[i] : 0;
    }
}

typedef struct { __m512i row[PANEL], oldest[PANEL]; __mmask16 there[PANEL]; } Seeing;

INLINE void look(const Attention *a, const Lanes *of, int j, Seeing *s) {
    const __m512i count = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    s->there[j] = of->n == LANES ? 0xffff : (1u << of->n) - 1;
    s->row[j] = _mm512_add_epi32(_mm512_set1_epi32(of->first), count);
    __m512i position = _mm512_maskz_loadu_epi32(s->there[j], a->position + a->before + of->first);
    s->oldest[j] = a->window ? _mm512_sub_epi32(position, _mm512_set1_epi32(a->window)) : _mm512_set1_epi32(INT32_MIN);
}

/* Which queries see which keys of a group; whether any does. */
INLINE int seen(const Attention *a, const int NR, const Seeing *s, int group, __mmask16 m[KEYS][PANEL]) {
    unsigned any = 0;
    for (int i = 0; i < KEYS; i++) {
        const int p = group * KEYS + i;
        const __m512i row = _mm512_set1_epi32(a->row[p]), reach = _mm512_set1_epi32(a->reach[p]), position = _mm512_set1_epi32(a->position[p]);
#pragma GCC unroll 3
        for (int j = 0; j < NR; j++) {
            __mmask16 x = _mm512_mask_cmple_epi32_mask(s->there[j], row, s->row[j]);
            x = _mm512_mask_cmpgt_epi32_mask(x, reach, s->row[j]);
            m[i][j] = _mm512_mask_cmpgt_epi32_mask(x, position, s->oldest[j]);
            any |= m[i][j];
        }
    }
    return any != 0;
}

/* s = eight rows · a panel's columns. */
INLINE void multiply(const int D, const int NR, const bf16 *rows, const uint32_t *panel, __m512 s[KEYS][PANEL]) {
    const uint32_t *from = (const uint32_t *)rows;
#pragma GCC unroll 8
    for (int i = 0; i < KEYS; i++)
#pragma GCC unroll 3
        for (int j = 0; j < NR; j++) s[i][j] = _mm512_setzero_ps();
    for (int k = 0; k < D / 2; k++) {
        __m512bh q[PANEL];
#pragma GCC unroll 3
        for (int j = 0; j < NR; j++) q[j] = at(panel + k * WIDE + j * LANES);
#pragma GCC unroll 8
        for (int i = 0; i < KEYS; i++) {
            const __m512bh x = both(from[i * (D / 2) + k]);
#pragma GCC unroll 3
            for (int j = 0; j < NR; j++) s[i][j] = _mm512_dpbf16_ps(s[i][j], q[j], x);
        }
    }
}

/* sums (MR rows of D, from column `c` on NZ vectors) = or += weights (pairs of keys down, rows across) · keys or values by twos. */
INLINE void gather(const int D, const int MR, const int NZ, const uint32_t *weights, const int32_t *groups, int n, const uint32_t *pairs,
                   int c, int add, float *sums) {
    __m512 s[8][4];
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int z = 0; z < NZ; z++) s[r][z] = add ? _mm512_loadu_ps(sums + r * D + c + z * LANES) : _mm512_setzero_ps();
    for (int g = 0; g < n; g++) {
        const uint32_t *v = pairs + (int64_t)groups[g] * PAIRS * D + c, *w = weights + g * PAIRS * WIDE;
#pragma GCC unroll 1
        for (int i = 0; i < PAIRS; i++, v += D, w += WIDE) {
            __m512bh x[4];
#pragma GCC unroll 4
            for (int z = 0; z < NZ; z++) x[z] = at(v + z * LANES);
#pragma GCC unroll 8
            for (int r = 0; r < MR; r++) {
                const __m512bh p = both(w[r]);
#pragma GCC unroll 4
                for (int z = 0; z < NZ; z++) s[r][z] = _mm512_dpbf16_ps(s[r][z], x[z], p);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int z = 0; z < NZ; z++) _mm512_storeu_ps(sums + r * D + c + z * LANES, s[r][z]);
}

#define VECTORS(D) ((D) == 32 ? 2 : (D) == 96 ? 3 : 4)
#define ROWS(D) (VECTORS(D) == 4 ? 6 : 8)

INLINE void gather_panel(const int D, int n_rows, const uint32_t *weights, const int32_t *groups, int n, const uint32_t *pairs, int add, float *sums) {
    for (int r = 0; r < n_rows; r += ROWS(D))
        for (int c = 0; c < D; c += VECTORS(D) * LANES)
            gather(D, ROWS(D), VECTORS(D), weights + r, groups, n, pairs, c, add, sums + (int64_t)r * D);
}

/* One panel's output. scores: (a block's keys, WIDE), its first half then the weights by twos; met: groups that it sees. */
INLINE void forward_panel(const int D, const int NR, const Attention *a, const Block *b, int key_head, int first, float *scores, int32_t *met) {
    uint32_t panel[D / 2 * WIDE];
    float sums[WIDE * D];
    Lanes of[PANEL];
    Seeing s;
    __m512 top[PANEL], total[PANEL];
    const __m512 factor = _mm512_set1_ps(a->scale * 1.44269504f);
    const bf16 *keys = a->rows + (int64_t)key_head * a->padded * D;
    int n = 0;
    for (int j = 0; j < NR; j++) {
        of[j] = lanes_of(a, b, key_head, first + j);
        look(a, of + j, j, &s);
        stand(D, a->q + of[j].first * a->q_row + of[j].head * a->q_head, a->q_row, of[j].n, panel + j * LANES);
        top[j] = _mm512_set1_ps(LOW), total[j] = _mm512_setzero_ps();
    }
    for (int g = 0; g < b->n; g++) {
        const int group = a->groups[b->first + g];
        __mmask16 m[KEYS][PANEL];
        __m512 x[KEYS][PANEL];
        if (!seen(a, NR, &s, group, m)) continue;
        multiply(D, NR, keys + (int64_t)group * KEYS * D, panel, x);
        float *to = scores + (int64_t)n * KEYS * WIDE;
        met[n++] = group;
#pragma GCC unroll 8
        for (int i = 0; i < KEYS; i++)
#pragma GCC unroll 3
            for (int j = 0; j < NR; j++) {
                x[i][j] = _mm512_mask_mul_ps(_mm512_set1_ps(2 * LOW), m[i][j], x[i][j], factor);
                top[j] = _mm512_max_ps(top[j], x[i][j]);
                _mm512_storeu_ps(to + i * WIDE + j * LANES, x[i][j]);
            }
    }
    for (int i = 0; i < n * PAIRS; i++)
#pragma GCC unroll 3
        for (int j = 0; j < NR; j++) {
            const float *from = scores + (int64_t)2 * i * WIDE + j * LANES;
            __m512 low = power(_mm512_sub_ps(_mm512_loadu_ps(from), top[j])), high = power(_mm512_sub_ps(_mm512_loadu_ps(from + WIDE), top[j]));
            total[j] = _mm512_add_ps(total[j], _mm512_add_ps(low, high));
            _mm512_storeu_si512((uint32_t *)scores + (int64_t)i * WIDE + j * LANES, paired(low, high));
        }
    gather_panel(D, NR * LANES, (const uint32_t *)scores, met, n, a->pairs + (int64_t)key_head * a->padded / 2 * D, 0, sums);
    for (int j = 0; j < NR; j++) {
        float sum[LANES], high[LANES];
        _mm512_storeu_ps(sum, total[j]), _mm512_storeu_ps(high, top[j]);
        for (int l = 0; l < of[j].n; l++) {
            const int64_t at = (int64_t)(of[j].first + l) * a->heads + of[j].head;
            a->lse[at] = high[l] + log2f(sum[l]);
            const __m512 share = _mm512_set1_ps(1.0f / sum[l]);
            for (int i = 0; i < D; i += LANES) narrow(a->out + at * D + i, _mm512_mul_ps(share, _mm512_loadu_ps(sums + (j * LANES + l) * D + i)));
        }
    }
}

#define HEAD_DIMS(D, DO) switch (D) { case 32: DO(32); break; case 64: DO(64); break; case 96: DO(96); break; case 128: DO(128); break; case 256: DO(256); break; }

static int most_groups(const Attention *a) {
    int most = 1;
    for (int i = 0; i < a->n_blocks; i++) most = a->blocks[i].n > most ? a->blocks[i].n : most;
    return most;
}

#define FORWARD(D) static void forward_##D(const Attention *a, const Block *b, int head, float *scores, int32_t *met) { \
    const int all = (b->end - b->start + LANES - 1) / LANES * (a->heads / a->key_heads); \
    for (int i = 0; i < all; i += PANEL) \
        switch (all - i) { \
            case 1: forward_panel(D, 1, a, b, head, i, scores, met); break; \
            case 2: forward_panel(D, 2, a, b, head, i, scores, met); break; \
            default: forward_panel(D, 3, a, b, head, i, scores, met); \
        } \
}
FORWARD(32) FORWARD(64) FORWARD(96) FORWARD(128) FORWARD(256)

/* d is 32, 64, 96, 128 or 256. Returns 0, or 1 where there is no memory. */
int tree_forward(const Attention *a) {
    const int64_t most = most_groups(a);
    int failed = 0;
    lay(a, a->k, a->k_row, a->k_head, a->rows, NULL);
    lay(a, a->v, a->v_row, a->v_head, NULL, a->pairs);
#pragma omp parallel
    {
        /* a few rows that a panel of fewer vectors may read beyond its own */
        float *scores = aligned_alloc(64, ((most * KEYS + 1) * WIDE) * sizeof(float));
        int32_t *met = malloc(most * sizeof(int32_t));
        if (!scores || !met) {
#pragma omp atomic write
            failed = 1;
        } else memset(scores, 0, ((most * KEYS + 1) * WIDE) * sizeof(float));
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < a->n_blocks * a->key_heads; i++) {
            if (!scores || !met) continue;
#define DO(D) forward_##D(a, a->blocks + i / a->key_heads, i % a->key_heads, scores, met)
            HEAD_DIMS(a->d, DO)
#undef DO
        }
        free(scores), free(met);
    }
    return failed;
}

/* What the backward pass holds of some queries: all of it a thread's own. */
typedef struct {
    uint32_t *q_panels, *d_panels; /* as `stand` leaves them */
    uint32_t *q_pairs, *d_pairs;   /* (rows / 2, D) */
    float *lse, *delta, *dq;       /* (rows), (rows), (rows, D) */
    bf16 *weights, *slopes;        /* (keys of a tile, rows) */
    uint32_t *slope_pairs;         /* (panels, pairs of keys of a tile, WIDE) */
} Held;

/* sums (MR keys, each at its place) += weights (keys, rows) · rows by twos. */
INLINE void scatter(const int D, const int MR, const int NZ, const bf16 *weights, int n_rows, const uint32_t *pairs, int c, float *const *sums) {
    __m512 s[8][4];
    const uint32_t *w = (const uint32_t *)weights;
    const int stride = n_rows / 2;
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int z = 0; z < NZ; z++) s[r][z] = _mm512_loadu_ps(sums[r] + c + z * LANES);
    for (int k = 0; k < stride; k++) {
        __m512bh x[4];
#pragma GCC unroll 4
        for (int z = 0; z < NZ; z++) x[z] = at(pairs + (int64_t)k * D + c + z * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < MR; r++) {
            const __m512bh p = both(w[r * stride + k]);
#pragma GCC unroll 4
            for (int z = 0; z < NZ; z++) s[r][z] = _mm512_dpbf16_ps(s[r][z], x[z], p);
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 4
        for (int z = 0; z < NZ; z++) _mm512_storeu_ps(sums[r] + c + z * LANES, s[r][z]);
}

INLINE void scatter_tile(const int D, int n_keys, const bf16 *weights, int n_rows, const uint32_t *pairs, float *const *sums) {
    for (int k = 0; k < n_keys;) {
        const int left = n_keys - k, take = left < ROWS(D) ? left : ROWS(D); /* of eights: 6, 4 or 2 are left, or 8 */
        for (int c = 0; c < D; c += VECTORS(D) * LANES) {
            const bf16 *w = weights + (int64_t)k * n_rows;
            if (take == ROWS(D)) scatter(D, ROWS(D), VECTORS(D), w, n_rows, pairs, c, sums + k);
            else if (take == 4) scatter(D, 4, VECTORS(D), w, n_rows, pairs, c, sums + k);
            else scatter(D, 2, VECTORS(D), w, n_rows, pairs, c, sums + k);
        }
        k += take;
    }
}

/* Weights and slopes of one panel against one group of keys. */
INLINE void weigh(const int D, const int NR, const Attention *a, const Held *h, const Seeing *s, int panel, int group, int place, int n_rows, int key_head) {
    const int64_t own = ((int64_t)key_head * a->padded + (int64_t)group * KEYS) * D;
    bf16 *weights = h->weights + (int64_t)place * KEYS * n_rows + panel * WIDE, *slopes = h->slopes + (int64_t)place * KEYS * n_rows + panel * WIDE;
    uint32_t *by_twos = h->slope_pairs + ((int64_t)panel * TILE + place) * PAIRS * WIDE;
    const __m512 factor = _mm512_set1_ps(a->scale * 1.44269504f);
    __mmask16 m[KEYS][PANEL];
    __m512 x[KEYS][PANEL];
    float p[KEYS][WIDE];
    if (!seen(a, NR, s, group, m)) {
        for (int i = 0; i < KEYS; i++) memset(weights + (int64_t)i * n_rows, 0, WIDE * sizeof(bf16)), memset(slopes + (int64_t)i * n_rows, 0, WIDE * sizeof(bf16));
        memset(by_twos, 0, PAIRS * WIDE * sizeof(uint32_t));
        return;
    }
    multiply(D, NR, a->rows + own, h->q_panels + (int64_t)panel * D / 2 * WIDE, x);
#pragma GCC unroll 8
    for (int i = 0; i < KEYS; i++)
#pragma GCC unroll 3
        for (int j = 0; j < NR; j++) {
            __m512 t = _mm512_fmsub_ps(x[i][j], factor, _mm512_loadu_ps(h->lse + panel * WIDE + j * LANES));
            t = _mm512_maskz_mov_ps(m[i][j], power(t));
            _mm512_storeu_ps(p[i] + j * LANES, t);
            narrow(weights + (int64_t)i * n_rows + j * LANES, t);
        }
    multiply(D, NR, a->rows + (int64_t)a->key_heads * a->padded * D + own, h->d_panels + (int64_t)panel * D / 2 * WIDE, x);
#pragma GCC unroll 4
    for (int i = 0; i < KEYS; i += 2)
#pragma GCC unroll 3
        for (int j = 0; j < NR; j++) {
            const __m512 delta = _mm512_loadu_ps(h->delta + panel * WIDE + j * LANES);
            const __m512 low = _mm512_mul_ps(_mm512_sub_ps(x[i][j], delta), _mm512_loadu_ps(p[i] + j * LANES));
            const __m512 high = _mm512_mul_ps(_mm512_sub_ps(x[i + 1][j], delta), _mm512_loadu_ps(p[i + 1] + j * LANES));
            narrow(slopes + (int64_t)i * n_rows + j * LANES, low), narrow(slopes + (int64_t)(i + 1) * n_rows + j * LANES, high);
            _mm512_storeu_si512(by_twos + i / 2 * WIDE + j * LANES, paired(low, high));
        }
}

/* Queries and gradients of the output, as rows by twos and as panels, with what is subtracted; zeros where there is no query. */
INLINE void hold(const int D, const Attention *a, const Lanes *of, int i, const Held *h) {
    const int64_t panel = (int64_t)(i / PANEL) * D / 2 * WIDE + i % PANEL * LANES, row = (int64_t)i * LANES;
    const bf16 *q = a->q + of->first * a->q_row + of->head * a->q_head, *d = a->d_out + of->first * a->d_row + of->head * a->d_head;
    static const bf16 none[256];
    stand(D, q, a->q_row, of->n, h->q_panels + panel);
    stand(D, d, a->d_row, of->n, h->d_panels + panel);
    for (int l = 0; l < LANES; l += 2) {
        pair_rows(D, l < of->n ? q + l * a->q_row : none, l + 1 < of->n ? q + (l + 1) * a->q_row : none, h->q_pairs + (row + l) / 2 * D);
        pair_rows(D, l < of->n ? d + l * a->d_row : none, l + 1 < of->n ? d + (l + 1) * a->d_row : none, h->d_pairs + (row + l) / 2 * D);
    }
    for (int l = 0; l < LANES; l++) {
        h->lse[row + l] = h->delta[row + l] = 0.0f;
        if (l >= of->n) continue;
        const int64_t at = (int64_t)(of->first + l) * a->heads + of->head;
        __m512 sum = _mm512_setzero_ps();
        for (int c = 0; c < D; c += LANES) sum = _mm512_fmadd_ps(widen(d + l * a->d_row + c), widen(a->out + at * D + c), sum);
        h->delta[row + l] = _mm512_reduce_add_ps(sum), h->lse[row + l] = a->lse[at];
    }
}

/* The gradients that a block's queries give: theirs, and what they add to those of keys and values. */
INLINE void backward_part(const int D, const Attention *a, const Block *b, int key_head, float *dk, float *dv, const Held *h) {
    const int all = (b->end - b->start + LANES - 1) / LANES * (a->heads / a->key_heads), panels = (all + PANEL - 1) / PANEL, n_rows = panels * WIDE;
    const uint32_t *key_pairs = a->pairs + (int64_t)key_head * a->padded / 2 * D;
    for (int i = 0; i < panels * PANEL; i++) {
        const Lanes nothing = {b->start, 0, key_head * (a->heads / a->key_heads)}, of = i < all ? lanes_of(a, b, key_head, i) : nothing;
        hold(D, a, &of, i, h);
    }
    memset(h->dq, 0, (int64_t)n_rows * D * sizeof(float));
    for (int t = 0; t < b->n; t += TILE) {
        const int n = b->n - t < TILE ? b->n - t : TILE;
        const int32_t *groups = a->groups + b->first + t;
        float *to_keys[TILE * KEYS], *to_values[TILE * KEYS];
        for (int i = 0; i < n * KEYS; i++) {
            const int64_t at = ((int64_t)groups[i / KEYS] * KEYS + i % KEYS) * D;
            to_keys[i] = dk + at, to_values[i] = dv + at;
        }
        for (int p = 0; p < panels; p++) {
            Seeing s;
            for (int j = 0; j < PANEL; j++) {
                const Lanes nothing = {b->start, 0, 0}, of = p * PANEL + j < all ? lanes_of(a, b, key_head, p * PANEL + j) : nothing;
                look(a, &of, j, &s);
            }
            for (int g = 0; g < n; g++) weigh(D, PANEL, a, h, &s, p, groups[g], g, n_rows, key_head);
            gather_panel(D, WIDE, h->slope_pairs + (int64_t)p * TILE * PAIRS * WIDE, groups, n, key_pairs, 1, h->dq + (int64_t)p * WIDE * D);
        }
        scatter_tile(D, n * KEYS, h->weights, n_rows, h->d_pairs, to_values);
        scatter_tile(D, n * KEYS, h->slopes, n_rows, h->q_pairs, to_keys);
    }
    const __m512 scale = _mm512_set1_ps(a->scale);
    for (int i = 0; i < all; i++) {
        const Lanes of = lanes_of(a, b, key_head, i);
        for (int l = 0; l < of.n; l++)
            for (int c = 0; c < D; c += LANES)
                narrow(a->dq + ((int64_t)(of.first + l) * a->heads + of.head) * D + c, _mm512_mul_ps(scale, _mm512_loadu_ps(h->dq + ((int64_t)i * LANES + l) * D + c)));
    }
}

#define BACKWARD(D) static void backward_##D(const Attention *a, const Block *b, int head, float *dk, float *dv, const Held *h) { backward_part(D, a, b, head, dk, dv, h); }
BACKWARD(32) BACKWARD(64) BACKWARD(96) BACKWARD(128) BACKWARD(256)

/* Room for `rows` queries in one piece; null where there is no memory. */
static void *held_of(int64_t rows, int64_t d, Held *h) {
    const int64_t sizes[] = {rows * d * 2, rows * d * 2, rows * d * 2, rows * d * 2, rows * 4, rows * 4, rows * d * 4,
                             TILE * KEYS * rows * 2, TILE * KEYS * rows * 2, TILE * KEYS * rows * 2};
    int64_t all = 0;
    for (int i = 0; i < 10; i++) all += (sizes[i] + 127) / 64 * 64;
    char *room = aligned_alloc(64, (all + 63) / 64 * 64), *p = room;
    void *at[10];
    for (int i = 0; i < 10; p += (sizes[i++] + 127) / 64 * 64) at[i] = p;
    *h = (Held){at[0], at[1], at[2], at[3], at[4], at[5], at[6], at[7], at[8], at[9]};
    return room;
}

static void one_chunk(const Attention *a, int chunk, int head, const Held *h) {
    const Chunk *c = a->chunks + chunk;
    const int64_t own = ((int64_t)chunk * a->key_heads + head) * a->padded * a->d;
    const int queries = LANES * (MOST / (a->heads / a->key_heads) > 1 ? MOST / (a->heads / a->key_heads) : 1);
    float *dk = a->dk_sums + own, *dv = a->dv_sums + own;
    memset(dk + (int64_t)c->low * a->d, 0, (int64_t)(c->high - c->low) * a->d * sizeof(float));
    memset(dv + (int64_t)c->low * a->d, 0, (int64_t)(c->high - c->low) * a->d * sizeof(float));
    for (int i = c->first; i < c->last; i++)
        for (int start = a->blocks[i].start; start < a->blocks[i].end; start += queries) {
            Block part = a->blocks[i];
            part.start = start, part.end = start + queries < part.end ? start + queries : part.end;
#define DO(D) backward_##D(a, &part, head, dk, dv, h)
            HEAD_DIMS(a->d, DO)
#undef DO
        }
}

/* dk and dv of one place and head: its chunks' sums, in their order. */
static void add_up(const Attention *a, int place, int head) {
    const __m512 scale = _mm512_set1_ps(a->scale);
    for (int i = 0; i < a->d; i += LANES) {
        __m512 k = _mm512_setzero_ps(), v = _mm512_setzero_ps();
        for (int c = 0; c < a->n_chunks; c++) {
            if (place < a->chunks[c].low || place >= a->chunks[c].high) continue;
            const int64_t at = (((int64_t)c * a->key_heads + head) * a->padded + place) * a->d + i;
            k = _mm512_add_ps(k, _mm512_loadu_ps(a->dk_sums + at)), v = _mm512_add_ps(v, _mm512_loadu_ps(a->dv_sums + at));
        }
        const int64_t to = ((int64_t)place * a->key_heads + head) * a->d + i;
        narrow(a->dk + to, _mm512_mul_ps(k, scale)), narrow(a->dv + to, v);
    }
}

/* As tree_forward. */
int tree_backward(const Attention *a) {
    const int G = a->heads / a->key_heads, vectors = MOST > G ? MOST : G, rows = (vectors + PANEL - 1) / PANEL * WIDE;
    const int64_t all = (int64_t)a->key_heads * a->padded * a->d;
    int failed = 0;
    lay(a, a->k, a->k_row, a->k_head, a->rows, a->pairs);
    lay(a, a->v, a->v_row, a->v_head, a->rows + all, NULL);
#pragma omp parallel
    {
        Held h;
        void *room = held_of(rows, a->d, &h);
        if (!room) {
#pragma omp atomic write
            failed = 1;
        }
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < a->n_chunks * a->key_heads; i++)
            if (room) one_chunk(a, i / a->key_heads, i % a->key_heads, &h);
#pragma omp for collapse(2) schedule(static)
        for (int p = 0; p < a->n_places; p++)
            for (int head = 0; head < a->key_heads; head++) add_up(a, p, head);
        free(room);
    }
    return failed;
}
