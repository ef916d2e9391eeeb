"""The passes of a RAMDA step in Triton; `cuda.py` launches them, `cpu.cpp` says the same in C++.

A program takes one tile, and finds everything else in tables, so the number of launches does not
depend on the number of tensors. Sums are in double, as on a CPU: w needs no scaling before it is
squared. Each tile writes its own sums, and `reduce` adds them in a fixed order: atomic additions
would let borderline groups flip from run to run.
"""

import triton
import triton.language as tl

FLOAT32 = tl.constexpr(0)
BFLOAT16 = tl.constexpr(1)
COLUMNS = tl.constexpr(0)


@triton.jit
def _cube_root(u):
    # z near u^(-1/3), two steps of Householder's method on u z³ = 1, and u z²; 0 gives 0.
    third = (u.to(tl.int32, bitcast=True).to(tl.float32) * 0.3333333333333333).to(tl.int32)
    z = (1419910442 - third).to(tl.float32, bitcast=True)
    for _ in tl.static_range(2):
        h = 1.0 - u * z * z * z
        z = z + z * h * (0.3333333333333333 + 0.2222222222222222 * h)
    return u * z * z


@triton.jit
def _average(x, p, momentum):
    near = x + momentum * (p - x)
    far = p - (1.0 - momentum) * (p - x)
    return tl.where(momentum < 0.5, near, far)


@triton.jit
def _tensor(tensors, number, which, dtype: tl.constexpr):
    return tl.load(tensors + number * 8 + which).to(tl.pointer_type(dtype))


@triton.jit
def _gradient(tensors, number, at, mask):
    kind = tl.load(tensors + number * 8 + 6)
    if kind == FLOAT32:
        g = tl.load(_tensor(tensors, number, 0, tl.float32) + at, mask=mask, other=0.0)
    elif kind == BFLOAT16:
        low = tl.load(_tensor(tensors, number, 0, tl.bfloat16) + at, mask=mask, other=0.0)
        g = low.to(tl.float32)
    else:
        half = tl.load(_tensor(tensors, number, 0, tl.float16) + at, mask=mask, other=0.0)
        g = half.to(tl.float32)
    return g


@triton.jit
def _to_bfloat16(x):
    # To the nearest, ties to even; NaN stays NaN.
    bits = x.to(tl.uint32, bitcast=True)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tl.where(x == x, rounded, 0x7FC0).to(tl.uint16)


@triton.jit
def _store_parameter(tensors, number, at, x, mask):
    kind = tl.load(tensors + number * 8 + 5)
    if kind != 0:
        # The sign of the address says which of the two it is.
        if kind > 0:
            tl.store(kind.to(tl.pointer_type(tl.uint16)) + at, _to_bfloat16(x), mask=mask)
        else:
            tl.store((-kind).to(tl.pointer_type(tl.float16)) + at, x.to(tl.float16), mask=mask)


@triton.jit
def _along(values, FORM: tl.constexpr):
    return values[None, :] if FORM == COLUMNS else values[:, None]


@triton.jit
def _ratios(tile, owner, ratios, factor, R: tl.constexpr, C: tl.constexpr, FORM: tl.constexpr):
    # Padding has L/r = 0: what it loads is zero, and so is what it adds.
    if FORM == COLUMNS:
        cells = tl.arange(0, C)
        inside = cells < tl.load(tile + 4)
    else:
        cells = tl.arange(0, R)
        inside = cells < tl.load(tile + 3)
    channel = tl.load(owner + tl.load(tile + 6) + cells, mask=inside, other=0)
    return tl.load(ratios + channel, mask=inside, other=0.0) / factor


@triton.jit
def _store_sums(
    tile, sums, kind, slots, values, R: tl.constexpr, C: tl.constexpr, FORM: tl.constexpr
):
    if FORM == COLUMNS:
        cells = tl.arange(0, C)
        inside = cells < tl.load(tile + 4)
        total = tl.sum(values, axis=0)
    else:
        cells = tl.arange(0, R)
        inside = cells < tl.load(tile + 3)
        total = tl.sum(values, axis=1)
    tl.store(sums + kind * slots + tl.load(tile + 7) + cells, total, mask=inside)


@triton.jit
def _block(tile, start, R: tl.constexpr, C: tl.constexpr, FORM: tl.constexpr):
    """Return the places of the block of a tile that starts there, and which are inside."""
    i, j = tl.arange(0, R), tl.arange(0, C)
    if FORM == COLUMNS:
        i = i + start
    else:
        j = j + start
    inside = (i[:, None] < tl.load(tile + 3)) & (j[None, :] < tl.load(tile + 4))
    return tl.load(tile + 2) + i[:, None] * tl.load(tile + 5) + j[None, :], inside


@triton.jit
def accumulate(
    tiles, tensors, settings, owner, ratios, sums, slots,
    R: tl.constexpr, C: tl.constexpr, FORM: tl.constexpr,
):  # fmt: skip
    """Add the gradients; sum w², w² d, p², p² t and p² t² over the cells of each tile."""
    tile = tiles + tl.program_id(0).to(tl.int64) * 8
    number = tl.load(tile)
    row = settings + tl.load(tensors + number * 8 + 7) * 4
    step_size, eps, factor = tl.load(row), tl.load(row + 1), tl.load(row + 3)
    q = _along(_ratios(tile, owner, ratios, factor, R, C, FORM), FORM)
    v_at = _tensor(tensors, number, 1, tl.float32)
    u_at = _tensor(tensors, number, 2, tl.float32)
    anchor = _tensor(tensors, number, 3, tl.float32)
    square = tl.zeros([R, C], dtype=tl.float64)
    curvature = tl.zeros([R, C], dtype=tl.float64)
    solution = tl.zeros([R, C], dtype=tl.float64)
    slope = tl.zeros([R, C], dtype=tl.float64)
    bend = tl.zeros([R, C], dtype=tl.float64)
    length = tl.load(tile + 3) if FORM == COLUMNS else tl.load(tile + 4)
    for start in range(0, length, R if FORM == COLUMNS else C):
        at, inside = _block(tile, start, R, C, FORM)
        g = _gradient(tensors, number, at, inside)
        v = tl.load(v_at + at, mask=inside, other=0.0) + step_size * g
        u = tl.load(u_at + at, mask=inside, other=0.0) + step_size * g * g
        tl.store(v_at + at, v, mask=inside)
        tl.store(u_at + at, u, mask=inside)
        d = _cube_root(u) + eps
        w = d * tl.load(anchor + at, mask=inside, other=0.0) - v
        inverse = 1.0 / (d + q)
        wide, p, t = w.to(tl.float64), (w * inverse).to(tl.float64), d * inverse
        square += wide * wide
        curvature += wide * wide * d
        solution += p * p
        slope += p * p * t
        bend += p * p * t * t
    wide_factor = factor.to(tl.float64)
    squared = wide_factor * wide_factor
    _store_sums(tile, sums, 0, slots, square * squared, R, C, FORM)
    _store_sums(tile, sums, 1, slots, curvature * squared * wide_factor, R, C, FORM)
    _store_sums(tile, sums, 2, slots, solution, R, C, FORM)
    _store_sums(tile, sums, 3, slots, slope, R, C, FORM)
    _store_sums(tile, sums, 4, slots, bend, R, C, FORM)


@triton.jit
def write(
    tiles, tensors, settings, owner, ratios, sums, slots,
    R: tl.constexpr, C: tl.constexpr, FORM: tl.constexpr,
):  # fmt: skip
    """Average the solution at q into the iterates; sum p² and p² t, where t = d/(d + q)."""
    tile = tiles + tl.program_id(0).to(tl.int64) * 8
    number = tl.load(tile)
    row = settings + tl.load(tensors + number * 8 + 7) * 4
    eps, momentum, factor = tl.load(row + 1), tl.load(row + 2), tl.load(row + 3)
    q = _along(_ratios(tile, owner, ratios, factor, R, C, FORM), FORM)
    v_at = _tensor(tensors, number, 1, tl.float32)
    u_at = _tensor(tensors, number, 2, tl.float32)
    anchor = _tensor(tensors, number, 3, tl.float32)
    x_at = _tensor(tensors, number, 4, tl.float32)
    solution = tl.zeros([R, C], dtype=tl.float64)
    slope = tl.zeros([R, C], dtype=tl.float64)
    length = tl.load(tile + 3) if FORM == COLUMNS else tl.load(tile + 4)
    for start in range(0, length, R if FORM == COLUMNS else C):
        at, inside = _block(tile, start, R, C, FORM)
        d = _cube_root(tl.load(u_at + at, mask=inside, other=0.0)) + eps
        w = d * tl.load(anchor + at, mask=inside, other=0.0)
        w = w - tl.load(v_at + at, mask=inside, other=0.0)
        inverse = 1.0 / (d + q)
        p = w * inverse
        x = _average(tl.load(x_at + at, mask=inside, other=0.0), p, momentum)
        tl.store(x_at + at, x, mask=inside)
        _store_parameter(tensors, number, at, x, inside)
        wide = p.to(tl.float64)
        solution += wide * wide
        slope += wide * wide * (d * inverse)
    _store_sums(tile, sums, 0, slots, solution, R, C, FORM)
    _store_sums(tile, sums, 1, slots, slope, R, C, FORM)


@triton.jit
def correct(
    tiles, tensors, settings, owner, last, ratios, sums, slots,
    R: tl.constexpr, C: tl.constexpr, FORM: tl.constexpr,
):  # fmt: skip
    """Move what was averaged in from the solution at `last` to that at q.

    A tile where they are equal keeps its sums, and costs no memory traffic.
    """
    tile = tiles + tl.program_id(0).to(tl.int64) * 8
    number = tl.load(tile)
    row = settings + tl.load(tensors + number * 8 + 7) * 4
    eps, momentum, factor = tl.load(row + 1), tl.load(row + 2), tl.load(row + 3)
    before = _ratios(tile, owner, last, factor, R, C, FORM)
    now = _ratios(tile, owner, ratios, factor, R, C, FORM)
    if tl.max((before != now).to(tl.int32), axis=0) != 0:
        old, q = _along(before, FORM), _along(now, FORM)
        v_at = _tensor(tensors, number, 1, tl.float32)
        u_at = _tensor(tensors, number, 2, tl.float32)
        anchor = _tensor(tensors, number, 3, tl.float32)
        x_at = _tensor(tensors, number, 4, tl.float32)
        solution = tl.zeros([R, C], dtype=tl.float64)
        slope = tl.zeros([R, C], dtype=tl.float64)
        length = tl.load(tile + 3) if FORM == COLUMNS else tl.load(tile + 4)
        for start in range(0, length, R if FORM == COLUMNS else C):
            at, inside = _block(tile, start, R, C, FORM)
            d = _cube_root(tl.load(u_at + at, mask=inside, other=0.0)) + eps
            w = d * tl.load(anchor + at, mask=inside, other=0.0)
            w = w - tl.load(v_at + at, mask=inside, other=0.0)
            inverse = 1.0 / (d + q)
            p = w * inverse
            x = tl.load(x_at + at, mask=inside, other=0.0) + momentum * (p - w / (d + old))
            tl.store(x_at + at, x, mask=inside)
            _store_parameter(tensors, number, at, x, inside)
            wide = p.to(tl.float64)
            solution += wide * wide
            slope += wide * wide * (d * inverse)
        _store_sums(tile, sums, 0, slots, solution, R, C, FORM)
        _store_sums(tile, sums, 1, slots, slope, R, C, FORM)


@triton.jit
def multiply(
    tiles, tensors, sums, slots, R: tl.constexpr, C: tl.constexpr, FORM: tl.constexpr
):  # fmt: skip
    """Sum the products of gradient and iterate over the cells of each tile."""
    tile = tiles + tl.program_id(0).to(tl.int64) * 8
    number = tl.load(tile)
    x_at = _tensor(tensors, number, 4, tl.float32)
    total = tl.zeros([R, C], dtype=tl.float64)
    length = tl.load(tile + 3) if FORM == COLUMNS else tl.load(tile + 4)
    for start in range(0, length, R if FORM == COLUMNS else C):
        at, inside = _block(tile, start, R, C, FORM)
        x = tl.load(x_at + at, mask=inside, other=0.0).to(tl.float64)
        total += x * _gradient(tensors, number, at, inside)
    _store_sums(tile, sums, 0, slots, total, R, C, FORM)


@triton.jit
def finish_free(tiles, tensors, settings, BLOCK: tl.constexpr):
    """Take the whole step of entries without a channel."""
    tile = tiles + tl.program_id(0).to(tl.int64) * 8
    number, offset, columns = tl.load(tile), tl.load(tile + 2), tl.load(tile + 4)
    row = settings + tl.load(tensors + number * 8 + 7) * 4
    step_size, eps, momentum = tl.load(row), tl.load(row + 1), tl.load(row + 2)
    v_at = _tensor(tensors, number, 1, tl.float32)
    u_at = _tensor(tensors, number, 2, tl.float32)
    anchor = _tensor(tensors, number, 3, tl.float32)
    x_at = _tensor(tensors, number, 4, tl.float32)
    for start in range(0, columns, BLOCK):
        j = start + tl.arange(0, BLOCK)
        at, inside = offset + j, j < columns
        g = _gradient(tensors, number, at, inside)
        v = tl.load(v_at + at, mask=inside, other=0.0) + step_size * g
        u = tl.load(u_at + at, mask=inside, other=0.0) + step_size * g * g
        tl.store(v_at + at, v, mask=inside)
        tl.store(u_at + at, u, mask=inside)
        p = tl.load(anchor + at, mask=inside, other=0.0) - v / (_cube_root(u) + eps)
        x = _average(tl.load(x_at + at, mask=inside, other=0.0), p, momentum)
        tl.store(x_at + at, x, mask=inside)
        _store_parameter(tensors, number, at, x, inside)


@triton.jit
def reduce(order, first, sums, out, slots, channels, KINDS: tl.constexpr, BLOCK: tl.constexpr):
    """Add the slots of one channel, in their order."""
    channel = tl.program_id(0)
    start, end = tl.load(first + channel), tl.load(first + channel + 1)
    for kind in tl.static_range(KINDS):
        total = tl.zeros([BLOCK], dtype=tl.float64)
        for begin in range(start, end, BLOCK):
            i = begin + tl.arange(0, BLOCK)
            slot = tl.load(order + i, mask=i < end, other=0)
            total += tl.load(sums + kind * slots + slot, mask=i < end, other=0.0)
        tl.store(out + kind * channels + channel, tl.sum(total, axis=0))


@triton.jit
def _finite(x):
    return (x == x) & (tl.abs(x) < float("inf"))


@triton.jit
def _lower(square, curvature, shrinkage):
    gap = tl.sqrt(square) - shrinkage
    return gap * (square / tl.where(curvature > 1e-300, curvature, 1e-300))


@triton.jit
def first_ratios(
    square_at, curvature_at, shrinkage_at, zero_at, guess_at, solution_at, slope_at, bend_at, out,
    channels, BLOCK: tl.constexpr,
):  # fmt: skip
    """Say `Secular.first_ratios`."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < channels
    square = tl.load(square_at + i, mask=inside, other=1.0)
    curvature = tl.load(curvature_at + i, mask=inside, other=1.0)
    shrinkage = tl.load(shrinkage_at + i, mask=inside, other=0.0)
    zero = tl.load(zero_at + i, mask=inside, other=1) != 0
    ratio = tl.load(guess_at + i, mask=inside, other=0.0).to(tl.float64)
    solution = tl.load(solution_at + i, mask=inside, other=1.0)
    slope = tl.load(slope_at + i, mask=inside, other=1.0)
    bend = tl.load(bend_at + i, mask=inside, other=1.0)
    norm, p_norm = tl.sqrt(square), tl.sqrt(solution)
    low, right = shrinkage / norm - 1.0, shrinkage / ratio
    high = right / p_norm - 1.0
    first = square * norm / curvature
    last = solution * p_norm / slope
    second = 1.5 * (bend - slope * slope / solution) / (right * solution * p_norm)
    second = second * last * last * last
    newton = right - high * last
    span = high - low
    chord = right / span
    from_low, from_high = (chord - first) / span, (last - chord) / span
    third = (second - from_high) / span
    fourth = (third - (from_high - from_low) / span) / span
    quartic = newton + high * high * (second - high * (third - low * fourth))
    bound = tl.where(-low * chord < right, -low * chord, right)
    quartic = tl.where((high > 0.0) & (quartic > bound), bound, quartic)
    near = (tl.abs(high) < 0.5) & _finite(quartic)
    seen = tl.where(near & (quartic > newton), quartic, newton)
    lower = _lower(square, curvature, shrinkage)
    r = tl.where(_finite(seen) & (seen > lower), seen, lower)
    found = tl.where(shrinkage == 0.0, 0.0, shrinkage / r)
    tl.store(out + i, tl.where(zero, float("inf"), found).to(tl.float32), mask=inside)


@triton.jit
def better_ratios(
    square_at, curvature_at, shrinkage_at, zero_at, ratio_at, solution_at, slope_at, out, channels,
    TOLERANCE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Say `Secular.better_ratios`."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = i < channels
    square = tl.load(square_at + i, mask=inside, other=1.0)
    curvature = tl.load(curvature_at + i, mask=inside, other=1.0)
    shrinkage = tl.load(shrinkage_at + i, mask=inside, other=0.0)
    zero = tl.load(zero_at + i, mask=inside, other=1) != 0
    ratio = tl.load(ratio_at + i, mask=inside, other=0.0)
    solution = tl.load(solution_at + i, mask=inside, other=1.0)
    slope = tl.load(slope_at + i, mask=inside, other=1.0)
    norm = tl.sqrt(solution)
    r = tl.where(shrinkage == 0.0, norm, shrinkage / ratio)
    excess = tl.where(zero, 0.0, norm / r - 1.0)
    newton = r - (r / norm - 1.0) * solution * norm / slope
    lower = _lower(square, curvature, shrinkage)
    newton = tl.where(_finite(newton) & (newton > lower), newton, lower)
    found = tl.where(shrinkage == 0.0, 0.0, shrinkage / newton).to(tl.float32)
    better = tl.where(tl.abs(excess) > TOLERANCE, found, ratio)
    tl.store(out + i, tl.where(zero, float("inf"), better), mask=inside)
