"""Names, parameters, plug-ins, and what is said when they are wrong."""

import dataclasses
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

import quantizers
from quantizers import Quantizer, QuantizerError, _registry, get_quantizer, list_quantizers
from quantizers.bf16 import Unquantized
from quantizers.rtn import RoundToNearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Foreign(Quantizer):
    """A third party's."""

    strength: float = 1.0

    def __call__(self, model):
        return model


@pytest.fixture
def plugins(monkeypatch):
    """A function that declares entry points and forgets what was discovered before."""

    def declare(**points):
        found = [
            EntryPoint(name.replace("_", "-"), value, _registry.ENTRY_POINT_GROUP)
            for name, value in points.items()
        ]
        monkeypatch.setattr(_registry, "entry_points", lambda group: found)
        _registry._discover.cache_clear()

    before = dict(_registry.registry.items())
    yield declare
    monkeypatch.undo()
    _registry.registry._objs = before
    _registry._discover.cache_clear()


def test_built_in_names():
    names = list_quantizers()
    assert set(names) == {
        "bf16",
        *(f"rtn-int{bits}{form}" for bits in (2, 3, 4, 6, 8) for form in ("", "-packed")),
        *(f"quanto-{kind}" for kind in ("int8", "int4", "int2", "float8")),
        *(f"bnb-{kind}" for kind in ("fp4", "nf4", "int8")),
        "gptq-int4",
        "awq-int4",
    }
    assert set(names.values()) == {"lm-eval-muse"}


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
    assert (
        quantizers._registry.quantizer_name(RoundToNearest(bits=6, restricted=True)) == "rtn-int6"
    )
    with pytest.raises(QuantizerError, match="is not registered under any name"):
        quantizers._registry.quantizer_name(RoundToNearest(bits=5))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("rtn-in4", {}, "unknown quantizer 'rtn-in4': did you mean rtn-int4 or "),
        ("zzz", {}, "unknown quantizer 'zzz': available: awq-int4, bf16"),
        ("bf16", {"bits": 4}, "quantizer 'bf16' has no parameter 'bits'; it takes none"),
        ("rtn-int4", {"group": 4}, "no parameter 'group'; it takes bits, group_size, restricted,"),
        ("rtn-int4", {"bits": 8}, "'rtn-int4' means bits=4, not 8"),
        ("rtn-int4", {"group_size": 0}, "'rtn-int4': group_size is 0; use a positive number"),
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
    with pytest.raises(ValueError, match=f"bits is {bits}; it must lie between 2 and 8"):
        RoundToNearest(bits=bits)


def test_a_taken_name_is_refused():
    list_quantizers()
    with pytest.raises(QuantizerError, match=r"'bf16' of .* already registered by quantizers.bf16"):
        quantizers.register_quantizer("bf16")(Foreign)


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
    plugins(bf16=f"{__name__}:Foreign")
    with pytest.raises(QuantizerError, match="already registered by lm-eval-muse; uninstall one"):
        list_quantizers()
    plugins(broken="no_such_module:Thing")
    with pytest.raises(QuantizerError, match=r"cannot be loaded: ModuleNotFoundError"):
        list_quantizers()
    plugins(function=f"{__name__}:plugins")
    with pytest.raises(QuantizerError, match=r"must name a subclass of quantizers.Quantizer"):
        list_quantizers()


def test_the_identity_returns_the_model_itself(llama):
    assert Unquantized()(llama) is llama
