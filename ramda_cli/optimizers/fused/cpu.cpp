// The two passes of a RAMDA step on a CPU; `cpu.py` compiles and calls them, `tiles.py` says what a
// tile is, `step.py` what a pass does, `roots.py` what happens between them. Loops run along
// contiguous memory, one row at a time, over restrict pointers: that is what lets compilers
// vectorise them and processors fetch ahead. A few terms are added in fp32, these sums in double.
// Each tile writes its own sums, so results do not depend on the number of threads. Squares of less
// than 1e-38 are lost: a channel with all |w| below 1e-22 counts as zero.

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>

// Compilers forget that pointers are restrict once a function is inlined.
#define KERNEL __attribute__((noinline))
#define RESTRICT __restrict__

namespace {

constexpr int kMaxCells = 4608;  // of a tile; cpu.py cuts them so

enum Form : int64_t { kColumns = 0, kRows = 1, kFree = 2 };
enum Type : int64_t { kFloat32 = 0, kBFloat16 = 1 };

struct Tensor {
    void *gradient;
    float *gradient_sum, *square_sum, *anchor, *iterate;
    void *parameter;  // of lower precision, or null where `iterate` is the parameter
    int64_t gradient_type, param_group;
};

struct Tile {
    int64_t tensor, form, offset, rows, columns, stride, first_cell, first_slot;
};

struct Settings {
    float step_size, eps, momentum, factor;
};

struct bfloat16 {
    uint16_t bits;
};

inline float to_float(float value) { return value; }
inline float to_float(bfloat16 value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float out;
    std::memcpy(&out, &bits, sizeof out);
    return out;
}

// To the nearest, ties to even; NaN stays NaN.
inline bfloat16 to_bfloat16(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return {static_cast<uint16_t>(value == value ? rounded : 0x7fc0)};
}

// For u >= 0, without a division: z near u^(-1/3) from a third of the exponent, two steps of
// Householder's method on u z^3 = 1 (relative error 1e-7), and u z^2. 0 gives 0: u z comes first.
inline float cube_root(float u) {
    int32_t bits;
    std::memcpy(&bits, &u, sizeof bits);
    bits = 1419910442 - static_cast<int32_t>(static_cast<float>(bits) * (1.0f / 3.0f));
    float z;
    std::memcpy(&z, &bits, sizeof z);
    for (int i = 0; i < 2; ++i) {
        const float h = 1.0f - u * z * z * z;
        z += z * h * (1.0f / 3.0f + 2.0f / 9.0f * h);
    }
    return u * z * z;
}

struct Step {
    float size, eps, momentum;
};

// x moves towards p by the share `momentum`, and is p itself where that is 1.
inline float average(float x, float p, float momentum) {
    return momentum < 0.5f ? x + momentum * (p - x) : p - (1.0f - momentum) * (p - x);
}

// The sums over a cell are of w^2, w^2 d, p^2 (`solution`), p^2 t (`slope`) and p^2 t^2 (`bend`),
// where p = w/(d + q) and t = d/(d + q). Terms of so many rows, or columns, are added in fp32.
constexpr int kRowsAtOnce = 8;
constexpr int kColumnsAtOnce = 256;
// So that equal places of the kinds of sums fall into different sets of the first cache.
constexpr int kSumsStride = kMaxCells + 112;
constexpr int kSegment = 32;

template <class G>
KERNEL void accumulate_columns(const G *RESTRICT g, float *RESTRICT v, float *RESTRICT u,
                               const float *RESTRICT x0, const float *RESTRICT q,
                               float *RESTRICT square, float *RESTRICT curvature,
                               float *RESTRICT solution, float *RESTRICT slope,
                               float *RESTRICT bend, int64_t n, Step step) {
    for (int64_t j = 0; j < n; ++j) {
        const float gradient = to_float(g[j]);
        const float new_v = v[j] + step.size * gradient;
        const float new_u = u[j] + step.size * gradient * gradient;
        v[j] = new_v, u[j] = new_u;
        const float d = cube_root(new_u) + step.eps;
        const float w = d * x0[j] - new_v;
        const float inverse = 1.0f / (d + q[j]);
        const float p = w * inverse, t = d * inverse;
        square[j] += w * w;
        curvature[j] += w * w * d;
        solution[j] += p * p;
        slope[j] += p * p * t;
        bend[j] += p * p * t * t;
    }
}

template <class G>
KERNEL void accumulate_row(const G *RESTRICT g, float *RESTRICT v, float *RESTRICT u,
                           const float *RESTRICT x0, float q, double *RESTRICT square,
                           double *RESTRICT curvature, double *RESTRICT solution,
                           double *RESTRICT slope, double *RESTRICT bend, int64_t n, Step step) {
    double all[5] = {0, 0, 0, 0, 0};
    for (int64_t start = 0; start < n; start += kColumnsAtOnce) {
        const int64_t end = start + kColumnsAtOnce < n ? start + kColumnsAtOnce : n;
        float a = 0, b = 0, c = 0, e = 0, f = 0;
#pragma omp simd reduction(+ : a, b, c, e, f)
        for (int64_t i = start; i < end; ++i) {
            const float gradient = to_float(g[i]);
            const float new_v = v[i] + step.size * gradient;
            const float new_u = u[i] + step.size * gradient * gradient;
            v[i] = new_v, u[i] = new_u;
            const float d = cube_root(new_u) + step.eps;
            const float w = d * x0[i] - new_v;
            const float inverse = 1.0f / (d + q);
            const float p = w * inverse, t = d * inverse;
            a += w * w;
            b += w * w * d;
            c += p * p;
            e += p * p * t;
            f += p * p * t * t;
        }
        all[0] += a, all[1] += b, all[2] += c, all[3] += e, all[4] += f;
    }
    *square = all[0], *curvature = all[1], *solution = all[2], *slope = all[3], *bend = all[4];
}

KERNEL void write_columns(const float *RESTRICT v, const float *RESTRICT u,
                          const float *RESTRICT x0, float *RESTRICT x, const float *RESTRICT q,
                          float *RESTRICT solution, float *RESTRICT slope, int64_t n, Step step) {
    for (int64_t j = 0; j < n; ++j) {
        const float d = cube_root(u[j]) + step.eps;
        const float inverse = 1.0f / (d + q[j]);
        const float p = (d * x0[j] - v[j]) * inverse;
        x[j] = average(x[j], p, step.momentum);
        solution[j] += p * p;
        slope[j] += p * p * (d * inverse);
    }
}

KERNEL void write_row(const float *RESTRICT v, const float *RESTRICT u, const float *RESTRICT x0,
                      float *RESTRICT x, float q, double *RESTRICT solution,
                      double *RESTRICT slope, int64_t n, Step step) {
    double all[2] = {0, 0};
    for (int64_t start = 0; start < n; start += kColumnsAtOnce) {
        const int64_t end = start + kColumnsAtOnce < n ? start + kColumnsAtOnce : n;
        float c = 0, e = 0;
#pragma omp simd reduction(+ : c, e)
        for (int64_t i = start; i < end; ++i) {
            const float d = cube_root(u[i]) + step.eps;
            const float inverse = 1.0f / (d + q);
            const float p = (d * x0[i] - v[i]) * inverse;
            x[i] = average(x[i], p, step.momentum);
            c += p * p;
            e += p * p * (d * inverse);
        }
        all[0] += c, all[1] += e;
    }
    *solution = all[0], *slope = all[1];
}

// Replaces the solution at `last` by that at q, in an iterate that `write` has averaged already.
KERNEL void correct_columns(const float *RESTRICT v, const float *RESTRICT u,
                            const float *RESTRICT x0, float *RESTRICT x,
                            const float *RESTRICT last, const float *RESTRICT q,
                            float *RESTRICT solution, float *RESTRICT slope, int64_t n,
                            Step step) {
    for (int64_t j = 0; j < n; ++j) {
        const float d = cube_root(u[j]) + step.eps;
        const float w = d * x0[j] - v[j];
        const float inverse = 1.0f / (d + q[j]);
        const float p = w * inverse;
        x[j] += step.momentum * (p - w / (d + last[j]));
        solution[j] += p * p;
        slope[j] += p * p * (d * inverse);
    }
}

// Moves sums from fp32 to double.
template <int KINDS>
KERNEL void flush(float (*RESTRICT sums)[kSumsStride], double *RESTRICT out, int64_t slots,
                  int64_t n) {
    for (int k = 0; k < KINDS; ++k) {
        for (int64_t j = 0; j < n; ++j) out[k * slots + j] += sums[k][j], sums[k][j] = 0.0f;
    }
}

KERNEL void correct_row(const float *RESTRICT v, const float *RESTRICT u, const float *RESTRICT x0,
                        float *RESTRICT x, float last, float q, double *RESTRICT solution,
                        double *RESTRICT slope, int64_t n, Step step) {
    double all[2] = {0, 0};
    for (int64_t start = 0; start < n; start += kColumnsAtOnce) {
        const int64_t end = start + kColumnsAtOnce < n ? start + kColumnsAtOnce : n;
        float c = 0, e = 0;
#pragma omp simd reduction(+ : c, e)
        for (int64_t i = start; i < end; ++i) {
            const float d = cube_root(u[i]) + step.eps;
            const float w = d * x0[i] - v[i];
            const float inverse = 1.0f / (d + q);
            const float p = w * inverse;
            x[i] += step.momentum * (p - w / (d + last));
            c += p * p;
            e += p * p * (d * inverse);
        }
        all[0] += c, all[1] += e;
    }
    *solution = all[0], *slope = all[1];
}

template <class G>
KERNEL void finish_free(const G *RESTRICT g, float *RESTRICT v, float *RESTRICT u,
                        const float *RESTRICT x0, float *RESTRICT x, int64_t n, Step step) {
    for (int64_t i = 0; i < n; ++i) {
        const float gradient = to_float(g[i]);
        const float new_v = v[i] + step.size * gradient;
        const float new_u = u[i] + step.size * gradient * gradient;
        v[i] = new_v, u[i] = new_u;
        x[i] = average(x[i], x0[i] - new_v / (cube_root(new_u) + step.eps), step.momentum);
    }
}

template <class T>
KERNEL void multiply_columns(const T *RESTRICT g, const float *RESTRICT x, double *RESTRICT out,
                             int64_t n) {
    for (int64_t j = 0; j < n; ++j) out[j] += static_cast<double>(to_float(g[j])) * x[j];
}

template <class T>
KERNEL double multiply_row(const T *RESTRICT g, const float *RESTRICT x, int64_t n) {
    double out = 0;
#pragma omp simd reduction(+ : out)
    for (int64_t j = 0; j < n; ++j) out += static_cast<double>(to_float(g[j])) * x[j];
    return out;
}

// Calls `body` with the gradient, at its own type, from `start` on.
template <class Body>
inline void with_gradient(const Tensor &tensor, int64_t start, Body body) {
    if (tensor.gradient_type == kBFloat16) {
        body(static_cast<const bfloat16 *>(tensor.gradient) + start);
    } else {
        body(static_cast<const float *>(tensor.gradient) + start);
    }
}

inline void clear(double *values, int64_t n) { std::memset(values, 0, n * sizeof(double)); }

// Calls `body` for each run of contiguous entries of a tile, with where it starts.
template <class Body>
inline void for_rows(const Tile &tile, Body body) {
    for (int64_t i = 0; i < tile.rows; ++i) body(i, tile.offset + i * tile.stride);
}

// Calls `body` for each row of `n` columns, with where it starts and fp32 sums for so many kinds,
// which are added to `out` after a few rows.
template <int KINDS, class Body>
inline void sum_columns(const Tile &tile, double *out, int64_t slots, int64_t n, Body body) {
    alignas(64) float sums[KINDS][kSumsStride];
    std::memset(sums, 0, sizeof sums);
    for (int k = 0; k < KINDS; ++k) clear(out + k * slots, n);
    for_rows(tile, [&](int64_t i, int64_t start) {
        body(start, sums);
        if ((i + 1) % kRowsAtOnce == 0 || i + 1 == tile.rows) flush<KINDS>(sums, out, slots, n);
    });
}

inline void round_to_parameter(const Tile &tile, const Tensor &tensor) {
    if (tensor.parameter == nullptr) return;
    auto *out = static_cast<bfloat16 *>(tensor.parameter);
    for_rows(tile, [&](int64_t, int64_t start) {
        for (int64_t j = 0; j < tile.columns; ++j) {
            out[start + j] = to_bfloat16(tensor.iterate[start + j]);
        }
    });
}

inline int64_t cells(const Tile &tile) { return tile.form == kRows ? tile.rows : tile.columns; }

// The q of the tile's cells; what another step size makes of a tensor's w and d is undone in q.
inline void gather(const Tile &tile, const int32_t *owner, const float *by_channel, float factor,
                   float *out) {
    const float scale = 1.0f / factor;
    for (int64_t i = 0; i < cells(tile); ++i) {
        out[i] = by_channel[owner[tile.first_cell + i]] * scale;
    }
}

// The secular equation of one channel; the names are those of `roots.py`.
struct Secular {
    double square, curvature, shrinkage;

    double at_least_lower(double r) const {
        const double norm = std::sqrt(square);
        const double lower = (norm - shrinkage) * (square / std::fmax(curvature, DBL_MIN));
        return std::isfinite(r) ? std::fmax(r, lower) : lower;
    }

    double interpolated(double ratio, double solution, double slope, double bend) const {
        const double norm = std::sqrt(square), p_norm = std::sqrt(solution);
        const double low = shrinkage / norm - 1.0, right = shrinkage / ratio;
        const double high = right / p_norm - 1.0;
        const double first = square * norm / curvature, last = solution * p_norm / slope;
        const double second = 1.5 * (bend - slope * slope / solution) /
                              (right * solution * p_norm) * last * last * last;
        const double newton = right - high * last, span = high - low, chord = right / span;
        const double from_low = (chord - first) / span, from_high = (last - chord) / span;
        const double third = (second - from_high) / span;
        const double fourth = (third - (from_high - from_low) / span) / span;
        double quartic = newton + high * high * (second - high * (third - low * fourth));
        if (high > 0) quartic = std::fmin(quartic, std::fmin(right, -low * chord));
        const bool near = std::fabs(high) < 0.5 && std::isfinite(quartic);
        return at_least_lower(near ? std::fmax(quartic, newton) : newton);
    }
};

inline float ratio(double r, double shrinkage, bool zero) {
    if (zero) return INFINITY;
    return shrinkage == 0 ? 0.0f : static_cast<float>(shrinkage / r);
}

}  // namespace

extern "C" {

// Adds the gradients to the sums of all tensors, and sums over the cells of each tile. Tiles of
// kind kFree are finished.
void ramda_accumulate(const Tile *tiles, int64_t count, const Tensor *tensors,
                      const Settings *settings, const int32_t *owner, const float *q, double *sums,
                      int64_t slots, int threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t t = 0; t < count; ++t) {
        const Tile tile = tiles[t];
        const Tensor tensor = tensors[tile.tensor];
        const Settings set = settings[tensor.param_group];
        const Step step = {set.step_size, set.eps, set.momentum};
        float *v = tensor.gradient_sum, *u = tensor.square_sum, *x0 = tensor.anchor,
              *x = tensor.iterate;
        if (tile.form == kFree) {
            with_gradient(tensor, tile.offset, [&](const auto *g) {
                const int64_t i = tile.offset;
                finish_free(g, v + i, u + i, x0 + i, x + i, tile.columns, step);
            });
            round_to_parameter(tile, tensor);
            continue;
        }
        alignas(64) float local[kMaxCells];
        gather(tile, owner, q, set.factor, local);
        double *square = sums + tile.first_slot, *curvature = square + slots,
               *solution = curvature + slots, *slope = solution + slots, *bend = slope + slots;
        if (tile.form == kColumns) {
            sum_columns<5>(tile, square, slots, tile.columns, [&](int64_t i, auto s) {
                with_gradient(tensor, i, [&](const auto *g) {
                    accumulate_columns(g, v + i, u + i, x0 + i, local, s[0], s[1], s[2], s[3],
                                       s[4], tile.columns, step);
                });
            });
        } else {
            for_rows(tile, [&](int64_t k, int64_t i) {
                with_gradient(tensor, i, [&](const auto *g) {
                    accumulate_row(g, v + i, u + i, x0 + i, local[k], square + k, curvature + k,
                                   solution + k, slope + k, bend + k, tile.columns, step);
                });
            });
        }
        const double factor = set.factor;
        for (int64_t k = 0; k < cells(tile); ++k) {
            square[k] *= factor * factor;
            curvature[k] *= factor * factor * factor;
        }
    }
}

// Averages the solution at q into the iterates, and sums it over the cells of each tile.
void ramda_write(const Tile *tiles, int64_t count, const Tensor *tensors, const Settings *settings,
                 const int32_t *owner, const float *q, double *sums, int64_t slots, int threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t t = 0; t < count; ++t) {
        const Tile tile = tiles[t];
        if (tile.form == kFree) continue;
        const Tensor tensor = tensors[tile.tensor];
        const Settings set = settings[tensor.param_group];
        const Step step = {set.step_size, set.eps, set.momentum};
        const float *v = tensor.gradient_sum, *u = tensor.square_sum, *x0 = tensor.anchor;
        float *x = tensor.iterate;
        alignas(64) float local[kMaxCells];
        gather(tile, owner, q, set.factor, local);
        double *solution = sums + tile.first_slot, *slope = solution + slots;
        if (tile.form == kColumns) {
            sum_columns<2>(tile, solution, slots, tile.columns, [&](int64_t i, auto s) {
                write_columns(v + i, u + i, x0 + i, x + i, local, s[0], s[1], tile.columns, step);
            });
        } else {
            for_rows(tile, [&](int64_t k, int64_t i) {
                write_row(v + i, u + i, x0 + i, x + i, local[k], solution + k, slope + k,
                          tile.columns, step);
            });
        }
        round_to_parameter(tile, tensor);
    }
}

// Moves what was averaged in from the solution at `last` to that at q. Cells where they are equal
// keep their sums.
void ramda_correct(const Tile *tiles, int64_t count, const Tensor *tensors,
                   const Settings *settings, const int32_t *owner, const float *last,
                   const float *q, double *sums, int64_t slots, int threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t t = 0; t < count; ++t) {
        const Tile tile = tiles[t];
        if (tile.form == kFree) continue;
        const Tensor tensor = tensors[tile.tensor];
        const Settings set = settings[tensor.param_group];
        const Step step = {set.step_size, set.eps, set.momentum};
        const float *v = tensor.gradient_sum, *u = tensor.square_sum, *x0 = tensor.anchor;
        float *x = tensor.iterate;
        float before[kMaxCells], local[kMaxCells];
        gather(tile, owner, last, set.factor, before);
        gather(tile, owner, q, set.factor, local);
        if (std::memcmp(before, local, cells(tile) * sizeof(float)) == 0) continue;
        double *solution = sums + tile.first_slot, *slope = solution + slots;
        if (tile.form == kRows) {
            for_rows(tile, [&](int64_t k, int64_t i) {
                if (before[k] == local[k]) return;
                correct_row(v + i, u + i, x0 + i, x + i, before[k], local[k], solution + k,
                            slope + k, tile.columns, step);
            });
        }
        // Few columns differ, after the first steps: what is between them is not touched.
        for (int64_t j = 0; tile.form == kColumns && j < tile.columns; j += kSegment) {
            const int64_t n = j + kSegment < tile.columns ? kSegment : tile.columns - j;
            if (std::memcmp(before + j, local + j, n * sizeof(float)) == 0) continue;
            sum_columns<2>(tile, solution + j, slots, n, [&](int64_t start, auto s) {
                const int64_t i = start + j;
                correct_columns(v + i, u + i, x0 + i, x + i, before + j, local + j, s[0], s[1], n,
                                step);
            });
        }
        round_to_parameter(tile, tensor);
    }
}

// Sums the products of gradient and iterate over the cells of each tile.
void ramda_multiply(const Tile *tiles, int64_t count, const Tensor *tensors, double *sums,
                    int threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t t = 0; t < count; ++t) {
        const Tile tile = tiles[t];
        if (tile.form == kFree) continue;
        const Tensor tensor = tensors[tile.tensor];
        double *out = sums + tile.first_slot;
        if (tile.form == kColumns) clear(out, tile.columns);
        for_rows(tile, [&](int64_t i, int64_t start) {
            const float *x = tensor.iterate + start;
            with_gradient(tensor, start, [&](const auto *g) {
                if (tile.form == kColumns) {
                    multiply_columns(g, x, out, tile.columns);
                } else {
                    out[i] = multiply_row(g, x, tile.columns);
                }
            });
        });
    }
}

// Says `Secular.first_ratios`.
void ramda_first_ratios(int64_t channels, const double *square, const double *curvature,
                        const double *shrinkage, const uint8_t *zero, const float *guess,
                        const double *sums, float *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t c = 0; c < channels; ++c) {
        const Secular secular = {square[c], curvature[c], shrinkage[c]};
        const double solution = sums[c], slope = sums[channels + c], bend = sums[2 * channels + c];
        const double r = secular.interpolated(guess[c], solution, slope, bend);
        out[c] = ratio(r, shrinkage[c], zero[c]);
    }
}

// Says `Secular.better_ratios`.
void ramda_better_ratios(int64_t channels, const double *square, const double *curvature,
                         const double *shrinkage, const uint8_t *zero, const float *ratios,
                         const double *sums, double tolerance, float *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t c = 0; c < channels; ++c) {
        const Secular secular = {square[c], curvature[c], shrinkage[c]};
        const double solution = sums[c], slope = sums[channels + c], norm = std::sqrt(solution);
        const double r = shrinkage[c] == 0 ? norm : shrinkage[c] / ratios[c];
        const bool wrong = std::fabs(norm / r - 1.0) > tolerance;
        const double newton = r - (r / norm - 1.0) * solution * norm / slope;
        out[c] = wrong || zero[c] ? ratio(secular.at_least_lower(newton), shrinkage[c], zero[c])
                                  : ratios[c];
    }
}

// Brings the sums of slots together by channel: of each of `kinds` sums, in the order of slots.
void ramda_reduce(const int64_t *order, const int64_t *first, int64_t channels, int64_t kinds,
                  const double *sums, int64_t slots, double *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t c = 0; c < channels; ++c) {
        for (int64_t k = 0; k < kinds; ++k) {
            double total = 0;
            for (int64_t i = first[c]; i < first[c + 1]; ++i) total += sums[k * slots + order[i]];
            out[k * channels + c] = total;
        }
    }
}

}  // extern "C"
