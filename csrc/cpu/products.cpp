#include "cpu/products.h"

#include <algorithm>

#include "cpu/kernels.h"
#include "cpu/tasks.h"

namespace mixtralkit {
namespace {

constexpr std::int64_t kRowsPerTask = 128;    // they and a task's weights stay in a core's second-level cache
constexpr std::int64_t kRowsPerPanel = 1024;  // of expert_mlp: bounds the memory for what is between its two products

// Rows made ready for products with matrices of a kind.
class ReadyRows {
  public:
    ReadyRows(const Kernels& run, Kind kind, std::int64_t rows, std::int64_t inputs)
        : run_(run), kind_(kind), inputs_(inputs), stride_(run.ready_bytes(kind, inputs)), memory_(rows * stride_) {}

    void* row(std::int64_t r) const { return memory_.at(r * stride_); }

    void take_all(const float* x, std::int64_t rows, const Norm* norm) const {
        const std::int64_t per_task = rows_per_small_task(inputs_);
        each_task(pieces(rows, per_task), [&](std::int64_t task) {
            const std::int64_t first = task * per_task, count = std::min(per_task, rows - first);
            const float* from = x + first * inputs_;
            if (!norm) return take(from, inputs_, first, count, 0, inputs_);
            const Scratch normed(count * inputs_ * 4);
            for (std::int64_t r = 0; r < count; ++r) {
                float* to = normed.floats() + r * inputs_;
                run_.rms_norm(norm->kind, from + r * inputs_, norm->weight, inputs_, norm->eps, to);
            }
            take(normed.floats(), inputs_, first, count, 0, inputs_);
        });
    }

    // The columns `begin` to `end` of `rows` rows from `first` on; x points at column `begin`.
    void take(const float* x, std::int64_t x_stride, std::int64_t first, std::int64_t rows, std::int64_t begin,
              std::int64_t end) const {
        run_.make_ready(kind_, x, x_stride, rows, begin, end, inputs_, row(first));
    }

  private:
    const Kernels& run_;
    Kind kind_;
    std::int64_t inputs_, stride_;
    Scratch memory_;
};

// A piece of work: some outputs of one matrix (or expert) for some rows.
struct Piece {
    std::size_t matrix;
    std::int64_t row, rows, begin, end;
};

void add_pieces(std::vector<Piece>& pieces_, std::size_t matrix, std::int64_t row, std::int64_t rows,
                std::int64_t outputs) {
    for (std::int64_t o = 0; o < outputs; o += kOutputsPerTask) {
        for (std::int64_t r = 0; r < rows; r += kRowsPerTask) {
            pieces_.push_back(
                {matrix, row + r, std::min(kRowsPerTask, rows - r), o, std::min(o + kOutputsPerTask, outputs)});
        }
    }
}

// y += x, for some columns of both.
void add_to(float* y, const float* x, std::int64_t rows, std::int64_t columns, std::int64_t stride) {
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t i = 0; i < columns; ++i) y[r * stride + i] += x[r * stride + i];
    }
}

// The parts of `experts` that rows `begin` to `end` of all rows belong to; their rows follow one another.
std::vector<Expert> panel_of(const std::vector<Expert>& experts, std::int64_t begin, std::int64_t end) {
    std::vector<Expert> panel;
    std::int64_t first = 0;
    for (Expert expert : experts) {
        const std::int64_t last = first + expert.rows;
        expert.rows = std::min(last, end) - std::max(first, begin);
        if (expert.rows > 0) panel.push_back(expert);
        first = last;
    }
    return panel;
}

void run_panel(const Kernels& run, const float* x, const std::vector<Expert>& experts, std::int64_t rows, float* y) {
    const Matrix& any = experts.front().w1;
    const std::int64_t dim = any.inputs, hidden = any.outputs;
    const ReadyRows inputs(run, any.kind, rows, dim), activations(run, any.kind, rows, hidden);
    inputs.take_all(x, rows, nullptr);

    std::vector<Piece> up, down;
    std::int64_t row = 0;
    for (std::size_t e = 0; e < experts.size(); row += experts[e++].rows) {
        add_pieces(up, e, row, experts[e].rows, hidden);
        add_pieces(down, e, row, experts[e].rows, dim);
    }
    each_task(static_cast<std::int64_t>(up.size()), [&](std::int64_t task) {
        const Piece& p = up[static_cast<std::size_t>(task)];
        const std::int64_t width = p.end - p.begin;
        alignas(64) float gate[kRowsPerTask * kOutputsPerTask], linear[kRowsPerTask * kOutputsPerTask];
        run.product(experts[p.matrix].w1, inputs.row(p.row), p.rows, p.begin, p.end, gate, width);
        run.product(experts[p.matrix].w3, inputs.row(p.row), p.rows, p.begin, p.end, linear, width);
        run.swiglu(gate, linear, p.rows * width);
        activations.take(gate, width, p.row, p.rows, p.begin, p.end);
    });
    each_task(static_cast<std::int64_t>(down.size()), [&](std::int64_t task) {
        const Piece& p = down[static_cast<std::size_t>(task)];
        float* to = y + p.row * dim + p.begin;
        run.product(experts[p.matrix].w2, activations.row(p.row), p.rows, p.begin, p.end, to, dim);
    });
}

}  // namespace

void multiply(const float* x, std::int64_t rows, const std::vector<Matrix>& weights, const Norm* norm,
              const float* residual, float* y) {
    if (rows == 0) return;
    const Kernels& run = kernels();
    const ReadyRows ready(run, weights.front().kind, rows, weights.front().inputs);
    ready.take_all(x, rows, norm);
    std::vector<Piece> all;
    std::vector<std::int64_t> column;
    std::int64_t width = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        add_pieces(all, i, 0, rows, weights[i].outputs);
        column.push_back(width);
        width += weights[i].outputs;
    }
    each_task(static_cast<std::int64_t>(all.size()), [&](std::int64_t task) {
        const Piece& p = all[static_cast<std::size_t>(task)];
        const std::int64_t at = p.row * width + column[p.matrix] + p.begin;
        run.product(weights[p.matrix], ready.row(p.row), p.rows, p.begin, p.end, y + at, width);
        if (residual) add_to(y + at, residual + at, p.rows, p.end - p.begin, width);
    });
}

void expert_mlp(const float* x, const std::vector<Expert>& experts, float* y) {
    const Kernels& run = kernels();
    std::int64_t rows = 0;
    for (const Expert& expert : experts) rows += expert.rows;
    for (std::int64_t begin = 0; begin < rows; begin += kRowsPerPanel) {
        const std::int64_t end = std::min(begin + kRowsPerPanel, rows);
        const std::int64_t dim = experts.front().w1.inputs;
        run_panel(run, x + begin * dim, panel_of(experts, begin, end), end - begin, y + begin * dim);
    }
}

}  // namespace mixtralkit
