"""Names, parameters, plug-ins, and the messages when they are wrong."""

import dataclasses
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest

import quantizers
from quantizers import Quantizer, QuantizerError, get_quantizer, list_quantizers, plugin_registry
from quantizers.methods.rtn import RoundToNearest
from quantizers.registry import ENTRY_POINT_GROUP, registry


@dataclasses.dataclass(frozen=True, kw_only=True)
class Foreign(Quantizer):
    """A third-party quantizer."""

    bits: ClassVar[None] = None
    strength: float = 1.0

    def __call__(self, model):
        return model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Silent(Quantizer):
    """A third-party quantizer without ``bits``."""


@pytest.fixture
def plugins(monkeypatch):
    """A function that declares entry points and resets discovery."""

    def declare(**points):
        found = [
            EntryPoint(name.replace("_", "-"), value, ENTRY_POINT_GROUP)
            for name, value in points.items()
        ]
        monkeypatch.setattr(plugin_registry, "entry_points", lambda group: found)
        registry._distributions = None

    before = registry.entries()
    yield declare
    monkeypatch.undo()
    registry._objs = before
    registry._distributions = None


@pytest.mark.parametrize(
    ("name", "cls", "bits"),
    [
        ("none", "Unquantized", None),
        ("bf16", "BFloat16", 16),
        ("rtn-int3", "RoundToNearest", 3),
        ("quanto-int8", "Quanto", 8),
        ("quanto-int4", "Quanto", 4),
        ("quanto-int2", "Quanto", 2),
        ("quanto-float8", "Quanto", 8),
        ("bnb-nf4", "BitsAndBytes4bit", 4),
        ("bnb-int8", "BitsAndBytes8bit", 8),
        ("gptq-int4", "GPTQ", 4),
        ("awq-int4", "AWQ", 4),
    ],
)
def test_a_name_gives_its_class_and_bits(name, cls, bits):
    """Names in recorded cells; a new built-in quantizer needs no line here."""
    quantizer = get_quantizer(name)
    assert type(quantizer).__name__ == cls
    assert quantizer.bits == bits
    assert list_quantizers()[name] == "lm-eval-muse"


def test_a_class_must_say_how_many_bits(plugins):
    plugins()
    message = "quantizer 'silent': Silent does not say how many bits .*; add `bits: ClassVar"
    with pytest.raises(QuantizerError, match=message) as caught:
        quantizers.register_quantizer("silent")(Silent)
    assert "\n" not in str(caught.value)
    assert "silent" not in list_quantizers()
    plugins(silent=f"{__name__}:Silent")
    with pytest.raises(QuantizerError, match=message):
        list_quantizers()


def test_bits_as_field_attribute_or_property(plugins):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Field(Quantizer):
        bits: float

    class Attribute(Quantizer):
        bits = 1.58

    class Property(Quantizer):
        @property
        def bits(self):
            return 5

    plugins()
    for name, cls, preset in [
        ("field", Field, {"bits": 2.5}),
        ("attribute", Attribute, {}),
        ("property", Property, {}),
    ]:
        quantizers.register_quantizer(name, **preset)(cls)
    assert [get_quantizer(n).bits for n in ("field", "attribute", "property")] == [2.5, 1.58, 5]
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'bits'"):
        Field()
    with pytest.raises(QuantizerError, match="quantizer 'needy' needs a value of 'bits'"):
        quantizers.register_quantizer("needy")(Field)
        get_quantizer("needy")


def test_importing_the_package_loads_no_torch():
    code = (
        "import sys, quantizers; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_parameters_and_presets():
    quantizer = get_quantizer("rtn-int3", group_size="row", skip=["*.o_proj"])
    assert quantizer == RoundToNearest(bits=3, group_size="row", skip=("*.o_proj",))
    assert quantizer.to_dict()["skip"] == ["*.o_proj"]
    assert get_quantizer("rtn-int4", bits=4).group_size == 128


def test_the_name_of_a_quantizer():
    assert quantizers.quantizer_name(RoundToNearest(bits=6, restricted=True)) == "rtn-int6"
    with pytest.raises(QuantizerError, match="is not registered under any name"):
        quantizers.quantizer_name(RoundToNearest(bits=5))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("rtn-in4", {}, "unknown quantizer 'rtn-in4': did you mean rtn-int4 or "),
        ("zzz", {}, "unknown quantizer 'zzz': available: awq-int4, bf16"),
        ("bf16", {"bits": 4}, "quantizer 'bf16' has no parameter 'bits': available: none"),
        ("rtn-int4", {"group": 4}, "no parameter 'group': available: group_size, restricted,"),
        ("rtn-int4", {"bits": 8}, "'rtn-int4' means bits=4, not 8"),
        ("rtn-int4", {"group_size": 0}, "'rtn-int4': group_size=0: Input should be greater than 0"),
        ("rtn-int4", {"group_size": "col"}, "group_size='col': .* 'row' or 'tensor'"),
        ("rtn-int4", {"restricted": "perhaps"}, "restricted='perhaps': "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(name, params, message):
    with pytest.raises(QuantizerError, match=message) as caught:
        get_quantizer(name, **params)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_must_be_2_to_8(bits):
    with pytest.raises(QuantizerError, match=f"^bits={bits}: Input should be (greater|less) than"):
        RoundToNearest(bits=bits)


def test_a_taken_name_is_refused():
    list_quantizers()
    with pytest.raises(
        QuantizerError, match=r"'rtn-int4' of .* registered by quantizers\.methods\.rtn"
    ):
        quantizers.register_quantizer("rtn-int4")(Foreign)


def test_a_plugin_by_entry_point(plugins):
    plugins(foreign=f"{__name__}:Foreign")
    module = sys.modules[__name__]
    assert list_quantizers()["foreign"] == f"{module.__name__}:Foreign"
    assert get_quantizer("foreign", strength="2").strength == 2.0


def test_a_local_class_by_decorator(plugins):
    plugins()
    quantizers.register_quantizer("mine", strength=3.0)(Foreign)
    assert list_quantizers()["mine"] == "local"
    assert get_quantizer("mine") == Foreign(strength=3.0)


def test_plugins_that_cannot_be(plugins):
    plugins(rtn_int4=f"{__name__}:Foreign")
    message = "already registered by distribution lm-eval-muse; uninstall one"
    with pytest.raises(QuantizerError, match=message):
        list_quantizers()
    plugins(broken="no_such_module:Thing")
    with pytest.raises(QuantizerError, match=r"cannot be loaded: ModuleNotFoundError"):
        list_quantizers()
    plugins(function=f"{__name__}:plugins")
    with pytest.raises(QuantizerError, match=r"must name a subclass of quantizers.Quantizer"):
        list_quantizers()
