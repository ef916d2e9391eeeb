// The two passes of a RAMDA step on a CPU; `cpu.py` compiles and calls them, `tiles.py` says what a
// tile is, `step.py` what a pass does. Loops run along contiguous memory over restrict pointers,
// which is what lets compilers vectorise them. Sums are in double: no scaling of w is needed before
// squaring, and neither overflow nor underflow of fp32 is possible. Each tile writes its own sums,
// so results do not depend on the number of threads.

#include <cmath>
#include <cstdint>
#include <cstring>

// Compilers forget that pointers are restrict once a function is inlined.
#define KERNEL __attribute__((noinline))
#define RESTRICT __restrict__

namespace {

constexpr int kMaxCells = 512;  // of a tile; cpu.py cuts them so

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

// For u >= 0: a third of the exponent, then two steps of Halley's method (relative error 1e-7).
inline float cube_root(float u) {
    int32_t bits;
    std::memcpy(&bits, &u, sizeof bits);
    bits = static_cast<int32_t>(static_cast<float>(bits) * (1.0f / 3.0f)) + 709921077;
    float y;
    std::memcpy(&y, &bits, sizeof y);
    for (int i = 0; i < 2; ++i) {
        const float cube = y * y * y;
        y *= (cube + u + u) / (cube + cube + u);
    }
    return u > 1e-37f ? y : 0.0f;
}

// v += s g and u += s g^2 along a row.
template <class G>
KERNEL void update(const G *RESTRICT g, float *RESTRICT v, float *RESTRICT u, int64_t n, float s) {
    for (int64_t j = 0; j < n; ++j) {
        const float gradient = to_float(g[j]);
        v[j] += s * gradient;
        u[j] += s * gradient * gradient;
    }
}

// The sums over a cell are of w^2, w^2 d, p^2 (`solution`) and p^2 d/(d + q) (`slope`), where
// p = w/(d + q).

KERNEL void add_columns(const float *RESTRICT v, const float *RESTRICT u, const float *RESTRICT x0,
                        const float *RESTRICT q, double *RESTRICT square,
                        double *RESTRICT curvature, double *RESTRICT solution,
                        double *RESTRICT slope, int64_t n, float eps) {
    for (int64_t j = 0; j < n; ++j) {
        const float d = cube_root(u[j]) + eps;
        const float w = d * x0[j] - v[j];
        const float inverse = 1.0f / (d + q[j]);
        const double wide = w, p = w * inverse;
        square[j] += wide * wide;
        curvature[j] += wide * wide * d;
        solution[j] += p * p;
        slope[j] += p * p * (d * inverse);
    }
}

KERNEL void add_row(const float *RESTRICT v, const float *RESTRICT u, const float *RESTRICT x0,
                    float q, double &square_sum, double &curvature_sum, double &solution_sum,
                    double &slope_sum, int64_t n, float eps) {
    double square = 0, curvature = 0, solution = 0, slope = 0;
#pragma omp simd reduction(+ : square, curvature, solution, slope)
    for (int64_t j = 0; j < n; ++j) {
        const float d = cube_root(u[j]) + eps;
        const float w = d * x0[j] - v[j];
        const float inverse = 1.0f / (d + q);
        const double wide = w, p = w * inverse;
        square += wide * wide;
        curvature += wide * wide * d;
        solution += p * p;
        slope += p * p * (d * inverse);
    }
    square_sum = square, curvature_sum = curvature, solution_sum = solution, slope_sum = slope;
}

// x moves towards p by the share `momentum`, and is p itself where that is 1.
inline float average(float x, float p, float momentum) {
    return momentum < 0.5f ? x + momentum * (p - x) : p - (1.0f - momentum) * (p - x);
}

KERNEL void write_columns(const float *RESTRICT v, const float *RESTRICT u,
                          const float *RESTRICT x0, float *RESTRICT x, const float *RESTRICT q,
                          double *RESTRICT solution, double *RESTRICT slope, int64_t n, float eps,
                          float momentum) {
    for (int64_t j = 0; j < n; ++j) {
        const float d = cube_root(u[j]) + eps;
        const float inverse = 1.0f / (d + q[j]);
        const float p = (d * x0[j] - v[j]) * inverse;
        x[j] = average(x[j], p, momentum);
        solution[j] += static_cast<double>(p) * p;
        slope[j] += static_cast<double>(p) * p * (d * inverse);
    }
}

KERNEL void write_row(const float *RESTRICT v, const float *RESTRICT u, const float *RESTRICT x0,
                      float *RESTRICT x, float q, double &solution_sum, double &slope_sum,
                      int64_t n, float eps, float momentum) {
    double solution = 0, slope = 0;
#pragma omp simd reduction(+ : solution, slope)
    for (int64_t j = 0; j < n; ++j) {
        const float d = cube_root(u[j]) + eps;
        const float inverse = 1.0f / (d + q);
        const float p = (d * x0[j] - v[j]) * inverse;
        x[j] = average(x[j], p, momentum);
        solution += static_cast<double>(p) * p;
        slope += static_cast<double>(p) * p * (d * inverse);
    }
    solution_sum = solution, slope_sum = slope;
}

// Replaces the solution at `last` by that at q, in an iterate that `write` has averaged already.
KERNEL void correct_columns(const float *RESTRICT v, const float *RESTRICT u,
                            const float *RESTRICT x0, float *RESTRICT x,
                            const float *RESTRICT last, const float *RESTRICT q,
                            double *RESTRICT solution, double *RESTRICT slope, int64_t n,
                            float eps, float momentum) {
    for (int64_t j = 0; j < n; ++j) {
        const float d = cube_root(u[j]) + eps;
        const float w = d * x0[j] - v[j];
        const float inverse = 1.0f / (d + q[j]);
        const float p = w * inverse;
        x[j] += momentum * (p - w / (d + last[j]));
        solution[j] += static_cast<double>(p) * p;
        slope[j] += static_cast<double>(p) * p * (d * inverse);
    }
}

KERNEL void correct_row(const float *RESTRICT v, const float *RESTRICT u, const float *RESTRICT x0,
                        float *RESTRICT x, float last, float q, double &solution_sum,
                        double &slope_sum, int64_t n, float eps, float momentum) {
    double solution = 0, slope = 0;
#pragma omp simd reduction(+ : solution, slope)
    for (int64_t j = 0; j < n; ++j) {
        const float d = cube_root(u[j]) + eps;
        const float w = d * x0[j] - v[j];
        const float inverse = 1.0f / (d + q);
        const float p = w * inverse;
        x[j] += momentum * (p - w / (d + last));
        solution += static_cast<double>(p) * p;
        slope += static_cast<double>(p) * p * (d * inverse);
    }
    solution_sum = solution, slope_sum = slope;
}

KERNEL void write_free(const float *RESTRICT v, const float *RESTRICT u, const float *RESTRICT x0,
                       float *RESTRICT x, int64_t n, float eps, float momentum) {
    for (int64_t j = 0; j < n; ++j) {
        x[j] = average(x[j], x0[j] - v[j] / (cube_root(u[j]) + eps), momentum);
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

// Calls `body` for each run of contiguous entries of a tile, with where it starts.
template <class Body>
inline void for_rows(const Tile &tile, Body body) {
    for (int64_t i = 0; i < tile.rows; ++i) body(i, tile.offset + i * tile.stride);
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

inline void clear(double *values, int64_t n) { std::memset(values, 0, n * sizeof(double)); }

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
        float local[kMaxCells];
        double *square = sums + tile.first_slot, *curvature = square + slots,
               *solution = curvature + slots, *slope = solution + slots;
        if (tile.form != kFree) gather(tile, owner, q, set.factor, local);
        if (tile.form == kColumns) {
            clear(square, tile.columns), clear(curvature, tile.columns);
            clear(solution, tile.columns), clear(slope, tile.columns);
        }
        for_rows(tile, [&](int64_t i, int64_t start) {
            float *v = tensor.gradient_sum + start, *u = tensor.square_sum + start;
            float *x0 = tensor.anchor + start, *x = tensor.iterate + start;
            with_gradient(tensor, start, [&](const auto *g) {
                update(g, v, u, tile.columns, set.step_size);
            });
            if (tile.form == kColumns) {
                add_columns(v, u, x0, local, square, curvature, solution, slope, tile.columns,
                            set.eps);
            } else if (tile.form == kRows) {
                add_row(v, u, x0, local[i], square[i], curvature[i], solution[i], slope[i],
                        tile.columns, set.eps);
            } else {
                write_free(v, u, x0, x, tile.columns, set.eps, set.momentum);
            }
        });
        if (tile.form == kFree) {
            round_to_parameter(tile, tensor);
            continue;
        }
        const double factor = set.factor;
        for (int64_t i = 0; i < cells(tile); ++i) {
            square[i] *= factor * factor;
            curvature[i] *= factor * factor * factor;
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
        float local[kMaxCells];
        double *solution = sums + tile.first_slot, *slope = solution + slots;
        gather(tile, owner, q, set.factor, local);
        if (tile.form == kColumns) {
            clear(solution, tile.columns), clear(slope, tile.columns);
        }
        for_rows(tile, [&](int64_t i, int64_t start) {
            const float *v = tensor.gradient_sum + start, *u = tensor.square_sum + start,
                        *x0 = tensor.anchor + start;
            float *x = tensor.iterate + start;
            if (tile.form == kColumns) {
                write_columns(v, u, x0, x, local, solution, slope, tile.columns, set.eps,
                              set.momentum);
            } else {
                write_row(v, u, x0, x, local[i], solution[i], slope[i], tile.columns, set.eps,
                          set.momentum);
            }
        });
        round_to_parameter(tile, tensor);
    }
}

// Moves what was averaged in from the solution at `last` to that at q. Tiles where they are equal
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
        float before[kMaxCells], local[kMaxCells];
        gather(tile, owner, last, set.factor, before);
        gather(tile, owner, q, set.factor, local);
        if (std::memcmp(before, local, cells(tile) * sizeof(float)) == 0) continue;
        double *solution = sums + tile.first_slot, *slope = solution + slots;
        if (tile.form == kColumns) {
            clear(solution, tile.columns), clear(slope, tile.columns);
        }
        for_rows(tile, [&](int64_t i, int64_t start) {
            const float *v = tensor.gradient_sum + start, *u = tensor.square_sum + start,
                        *x0 = tensor.anchor + start;
            float *x = tensor.iterate + start;
            if (tile.form == kColumns) {
                correct_columns(v, u, x0, x, before, local, solution, slope, tile.columns, set.eps,
                                set.momentum);
            } else if (before[i] != local[i]) {
                correct_row(v, u, x0, x, before[i], local[i], solution[i], slope[i], tile.columns,
                            set.eps, set.momentum);
            }
        });
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
