"""The integer grid against hand-worked groups, the definition in float64, and its invariants."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.grid import Grid

ZERO_OR_NORMAL = st.just(0.0) | st.builds(
    math.copysign,
    st.floats(min_value=2**-20, max_value=1000, width=32),
    st.sampled_from([-1.0, 1.0]),
)
GROUP_SIZES = st.integers(1, 12) | st.sampled_from(["row", "tensor"])


@st.composite
def matrices(draw):
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 20))
    values = draw(st.lists(ZERO_OR_NORMAL, min_size=rows * columns, max_size=rows * columns))
    return torch.tensor(values, dtype=torch.float32).view(rows, columns)


def reference(weight, bits, group_size, restricted):
    """Scales, quotients, indices and values by the definition, in float64, loop by loop."""
    weight = weight.double().numpy()
    rows, columns = weight.shape
    size = columns if isinstance(group_size, str) else group_size
    highest = 2 ** (bits - 1) - 1
    lowest = -highest if restricted else -(2 ** (bits - 1))
    scale, quotient = np.empty_like(weight), np.empty_like(weight)
    for row in range(rows):
        for start in range(0, columns, size):
            group = weight if group_size == "tensor" else weight[row, start : start + size]
            # float32, in which scales are computed, is part of the definition
            s = float(np.float32(np.abs(group).max() / -lowest)) or 1.0
            scale[row, start : start + size] = s
            quotient[row, start : start + size] = weight[row, start : start + size] / s
    index = np.clip(np.rint(quotient), lowest, highest)
    return scale, quotient, index, index * scale


def indices(grid, weight):
    return grid.to_indices_(weight.clone(), grid.scales(weight))


def rounded(grid, weight):
    weight = weight.clone()
    grid.round_(weight)
    return weight


def test_a_group_worked_by_hand():
    """max|W| = 2, so s = 2/8 = 1/4 and W/s = 2.4, -8, 2.8, 7.6, rounded 2, -8, 3, 8; 8 is cut."""
    weight = torch.tensor([[0.6, -2.0, 0.7, 1.9]])
    grid = Grid(bits=4, group_size=4)
    assert grid.scales(weight).tolist() == [[0.25]]
    assert indices(grid, weight).tolist() == [[2, -8, 3, 7]]
    assert rounded(grid, weight).tolist() == [[0.5, -2.0, 0.75, 1.75]]


def test_a_restricted_group_worked_by_hand():
    """max|W| = 7, so s = 7/7 = 1: the positive extreme is not clamped."""
    weight = torch.tensor([[7.0, -7.0, 3.4, 0.6]])
    grid = Grid(bits=4, group_size=4, restricted=True)
    assert rounded(grid, weight).tolist() == [[7.0, -7.0, 3.0, 1.0]]


def test_two_bits_by_hand():
    """With s = max|W| / 2 = 1 and indices -2, -1, 0, 1."""
    weight = torch.tensor([[-2.0, 2.0, 0.6, -0.6]])
    assert rounded(Grid(bits=2), weight).tolist() == [[-2.0, 1.0, 1.0, -1.0]]


def test_the_last_group_of_a_row_may_be_shorter():
    """Groups (-8, 1.2, 0.9) and (-0.8, 0.12): scales 8/8 and 0.8/8."""
    weight = torch.tensor([[-8.0, 1.2, 0.9, -0.8, 0.12]])
    grid = Grid(bits=4, group_size=3)
    assert torch.equal(grid.scales(weight), torch.tensor([[1.0, 0.1]]))
    assert indices(grid, weight).tolist() == [[-8, 1, 1, -8, 1]]


def test_whole_row_and_whole_tensor():
    """Row maxima 8 and 4: scales 1 and 0.5 by row, 1 for both by tensor."""
    weight = torch.tensor([[-8.0, 3.3], [-4.0, 1.3]])
    assert Grid(bits=4, group_size="row").scales(weight).tolist() == [[1.0], [0.5]]
    assert rounded(Grid(bits=4, group_size="row"), weight).tolist() == [[-8.0, 3.0], [-4.0, 1.5]]
    assert Grid(bits=4, group_size="tensor").scales(weight).tolist() == [[1.0]]
    assert rounded(Grid(bits=4, group_size="tensor"), weight).tolist() == [[-8, 3], [-4, 1]]


def test_ties_go_to_even():
    weight = torch.tensor([[-8.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]])
    assert indices(Grid(bits=4), weight).tolist() == [[-8, 0, 2, 2, 0, -2, -2]]


def test_a_zero_group_next_to_another_stays_zero():
    weight = torch.tensor([[0.0, 0.0, -8.0, 1.0]])
    assert rounded(Grid(bits=4, group_size=2), weight).tolist() == [[0.0, 0.0, -8.0, 1.0]]


def test_one_outlier_erases_its_group_only():
    weight = torch.full((1, 256), 0.01)
    weight[0, 5] = -8.0
    result = rounded(Grid(bits=4, group_size=128), weight)
    assert result[0, 5] == -8.0
    assert result[0, :128].count_nonzero() == 1
    assert (result[0, 128:] / 0.01).allclose(torch.tensor(7 / 8))


def test_equation_2_is_not_idempotent():
    """The positive extreme 8 becomes 7, so that the second scale is 7/8 and everything moves."""
    grid = Grid(bits=4)
    once = rounded(grid, torch.tensor([[8.0, 1.0, 0.0]]))
    assert once.tolist() == [[7.0, 1.0, 0.0]]
    assert rounded(grid, once).tolist() == [[6.125, 0.875, 0.0]]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_values_are_rounded_once_to_the_weight_dtype(dtype):
    torch.manual_seed(0)
    weight = torch.randn(8, 200).to(dtype)
    # float64 weights are quantized in float64; for the others float32 scales are exact here, as
    # maxima are divided by a power of two
    _, _, _, values = reference(weight, bits=4, group_size=128, restricted=False)
    expected = torch.from_numpy(values)
    assert torch.equal(rounded(Grid(bits=4), weight), expected.to(dtype))


@pytest.mark.parametrize("group_size", [128, "row", "tensor"])
def test_blocks_do_not_show(monkeypatch, group_size):
    torch.manual_seed(0)
    weight = torch.randn(50, 300)
    grid = Grid(bits=3, group_size=group_size)
    whole = weight.clone()
    scales = grid.round_(whole)
    monkeypatch.setattr("quantizers.grid.BLOCK_ELEMENTS", 7 * 300)
    blocked = weight.clone()
    assert torch.equal(grid.round_(blocked), scales)
    assert torch.equal(blocked, whole)
    assert torch.equal(scales, grid.scales(weight))
    assert scales.shape == grid.scales_shape(50, 300)


@settings(deadline=None)
@given(matrices(), st.integers(2, 8), GROUP_SIZES, st.booleans())
def test_definition_in_float64(weight, bits, group_size, restricted):
    grid = Grid(bits=bits, group_size=group_size, restricted=restricted)
    scale, quotient, index, _ = reference(weight, bits, group_size, restricted)
    ours = indices(grid, weight).double().numpy()
    # float32 division may land on a tie that the exact quotient only comes near
    tie = np.abs(np.abs(quotient - np.trunc(quotient)) - 0.5) < 1e-4
    assert (ours == index)[~tie].all()
    assert (np.abs(ours - index) <= 1)[tie].all()
    np.testing.assert_allclose(rounded(grid, weight).double().numpy(), ours * scale, rtol=1e-6)


@settings(deadline=None)
@given(matrices(), st.integers(2, 8), GROUP_SIZES, st.booleans())
def test_range_and_half_a_step(weight, bits, group_size, restricted):
    grid = Grid(bits=bits, group_size=group_size, restricted=restricted)
    ours = indices(grid, weight)
    assert torch.equal(ours, ours.round())
    assert -(2 ** (bits - 1)) + restricted <= ours.min()
    assert ours.max() <= 2 ** (bits - 1) - 1
    scale, quotient, _, _ = reference(weight, bits, group_size, restricted)
    error = np.abs(rounded(grid, weight).double().numpy() - weight.double().numpy())
    unclipped = quotient <= 2 ** (bits - 1) - 0.5
    assert (error <= scale * (0.5 + 1e-4))[unclipped].all()
    assert (error <= scale * (1 + 1e-4)).all()  # the clip costs an extreme one step at most


@settings(deadline=None)
@given(matrices(), st.integers(2, 8), GROUP_SIZES)
def test_restricted_grid_is_idempotent_to_the_bit(weight, bits, group_size):
    grid = Grid(bits=bits, group_size=group_size, restricted=True)
    once = rounded(grid, weight)
    assert torch.equal(rounded(grid, once), once)


@settings(deadline=None)
@given(matrices(), st.integers(2, 8), GROUP_SIZES, st.booleans())
def test_a_transposed_weight_is_rounded_alike(weight, bits, group_size, restricted):
    grid = Grid(bits=bits, group_size=group_size, restricted=restricted)
    transposed = weight.T.clone(memory_format=torch.contiguous_format)
    scales = grid.round_(transposed, axis=0)
    assert torch.equal(transposed.T, rounded(grid, weight))
    assert torch.equal(scales.T, grid.scales(weight))
