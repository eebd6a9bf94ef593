"""Registry of classes of any kind; those of quantizers and unlearners are tested by their names."""

import dataclasses
from typing import Any

import pytest

from quantizers.plugin_registry import PluginRegistry


class ThingError(ValueError):
    pass


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thing:
    size: int
    color: str = "red"

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError("size is negative")


@pytest.fixture
def registry() -> PluginRegistry[Thing]:
    made: PluginRegistry[Thing] = PluginRegistry(
        "thing", Thing, "quantizers.methods", group="no_such_group", error_class=ThingError
    )
    made.register("thing", Thing, {})
    made.register("blue-thing", Thing, {"color": "blue"})
    return made


def test_built_with_presets(registry: PluginRegistry[Thing]) -> None:
    assert registry.build("blue-thing", {"size": 2}) == Thing(size=2, color="blue")
    assert registry.distributions() == {"blue-thing": "local", "thing": "local"}


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("thin", {}, "unknown thing 'thin': did you mean thing"),
        ("thing", {"weight": 1}, "thing 'thing' has no parameter 'weight': available: size, color"),
        ("blue-thing", {"color": "red"}, "means color='blue', not 'red'; choose another name"),
        ("blue-thing", {"x": 1}, "has no parameter 'x': available: size$"),
        ("thing", {}, "needs a value of 'size'"),
        ("thing", {"size": -1}, "^thing 'thing': size is negative$"),
    ],
)
def test_mistakes(
    registry: PluginRegistry[Thing], name: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ThingError, match=message):
        registry.build(name, params)


@pytest.mark.parametrize("name", ["thing", "Upper", "a/b", ""])
def test_names_that_are_taken_or_cannot_be_used(registry: PluginRegistry[Thing], name: str) -> None:
    with pytest.raises(ThingError):
        registry.register(name, Thing, {})


def test_check_of_a_kind_may_refuse() -> None:
    def refuse(name: str, cls: type[Thing]) -> None:
        raise ThingError(f"{name} of {cls.__name__}")

    registry: PluginRegistry[Thing] = PluginRegistry(
        "thing", Thing, "quantizers.methods", group="g", error_class=ThingError, check=refuse
    )
    with pytest.raises(ThingError, match="a of Thing"):
        registry.register("a", Thing, {})
