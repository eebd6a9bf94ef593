"""Linear layers through oneDNN, compared with the same sums in float64."""

import pytest
import torch
from torch import nn

from unlearners import onednn
from unlearners.onednn import OneDnnLinear, onednn_linears

pytestmark = pytest.mark.skipif(not onednn.is_available(), reason="PyTorch without oneDNN")


@pytest.fixture(autouse=True)
def enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(onednn.VARIABLE, "1")


@pytest.mark.parametrize("value", [None, "0", ""])
def test_off_unless_asked_for(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert onednn.is_enabled()
    monkeypatch.delenv(onednn.VARIABLE)
    if value is not None:
        monkeypatch.setenv(onednn.VARIABLE, value)
    assert not onednn.is_enabled()
    linear = nn.Linear(4, 4)
    with onednn_linears(linear):
        assert type(linear) is nn.Linear


def test_gradient_of_a_sum_is_made_contiguous(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one number expanded to all outputs, stride 0: products would take 250 times as long.

    Of sum(W x + b) the gradient is the column sums of W for each x, the sum of all x for each row
    of W, and the number of rows for b.
    """
    seen = []
    product = onednn._product

    def spy(rows: torch.Tensor, weight: torch.Tensor, *bias: torch.Tensor) -> torch.Tensor:
        seen.append((rows, weight))
        return product(rows, weight, *bias)

    monkeypatch.setattr(onednn, "_product", spy)
    linear = nn.Linear(3, 2)
    states = torch.randn(2, 5, 3, requires_grad=True)
    with onednn_linears(linear):
        linear(states).sum().backward()

    of_states, of_weight = seen[-2:]  # the last two products are those of the backward pass
    assert of_states[0].is_contiguous() and of_weight[1].t().is_contiguous()
    torch.testing.assert_close(states.grad, linear.weight.detach().sum(0).expand(2, 5, 3))
    sums = states.detach().sum((0, 1)).expand(2, 3)
    torch.testing.assert_close(linear.weight.grad, sums)
    assert linear.bias.grad.tolist() == [10, 10]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 7, 8), (5, 8), (8,)])
def test_values_and_gradients(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(8, 12, bias=bias)
    states, seen = torch.randn(shape, requires_grad=True), torch.randn(*shape[:-1], 12)
    exact = nn.Linear(8, 12, bias=bias).double()
    exact.load_state_dict(linear.state_dict())
    exact_states = states.detach().double().requires_grad_()

    with onednn_linears(linear):
        output = linear(states)
        ((function, _),) = output.grad_fn.next_functions
        assert "_Linear" in type(function).__name__
        # a strided gradient, as the attention hands it back
        (output * seen.t().contiguous().t() if seen.dim() == 2 else output * seen).sum().backward()
    expected = exact(exact_states)
    (expected * seen.double()).sum().backward()

    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(states.grad.double(), exact_states.grad, rtol=1e-5, atol=1e-6)
    for name, parameter in linear.named_parameters():
        other = exact.get_parameter(name).grad
        torch.testing.assert_close(parameter.grad.double(), other, rtol=1e-5, atol=1e-6)


def test_output_may_be_changed_in_place() -> None:
    """As Gemma 3n does, and the gradient is that of the changed output: 2 for every input."""
    linear = nn.Linear(4, 3, bias=False)
    nn.init.ones_(linear.weight)
    states = torch.randn(2, 5, 4, requires_grad=True)
    with onednn_linears(linear):
        output = linear(states)
        output[0] *= 2
        output.sum().backward()
    assert states.grad[0].eq(6).all() and states.grad[1].eq(3).all()


def test_frozen_weight_gets_no_gradient() -> None:
    linear = nn.Linear(4, 3)
    linear.weight.requires_grad_(False)
    states = torch.randn(2, 4, requires_grad=True)
    with onednn_linears(linear):
        linear(states).sum().backward()
    assert linear.weight.grad is None and states.grad is not None and linear.bias.grad is not None


def test_only_within_and_only_plain_float32_layers() -> None:
    class Own(nn.Linear):
        pass

    model = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4).bfloat16(), Own(4, 4)])
    with pytest.raises(RuntimeError, match="on purpose"), onednn_linears(model):
        assert [type(module) for module in model] == [OneDnnLinear, nn.Linear, Own]
        raise RuntimeError("on purpose")
    assert [type(module) for module in model] == [nn.Linear, nn.Linear, Own]


def test_autocast_and_empty_input_take_the_usual_way() -> None:
    linear = nn.Linear(4, 3)
    with onednn_linears(linear):
        with torch.autocast("cpu", torch.bfloat16):
            assert linear(torch.randn(2, 4)).dtype == torch.bfloat16
        assert linear(torch.randn(0, 4)).shape == (0, 3)
