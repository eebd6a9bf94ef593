"""Fields of a configuration that are validated by their annotations."""

import dataclasses
from typing import Annotated, ClassVar, Literal

import pytest
from pydantic import ConfigDict, Field, PositiveFloat

from quantizers.parameters import validate_fields


class OwnError(ValueError):
    """The caller's error."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(allow_inf_nan=False)

    rate: PositiveFloat = 1
    size: Annotated[int, Field(ge=2)] | Literal["row"] = 2
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        validate_fields(self, OwnError)


def test_values_are_converted_once():
    settings = Settings(rate="1e-3", size="row", names=["a", "b"])
    assert repr(settings) == repr(Settings(rate=0.001, size="row", names=("a", "b")))
    assert repr(dataclasses.replace(settings)) == repr(settings)
    assert repr(Settings().rate) == "1.0", "defaults too"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": 0}, "rate=0: Input should be greater than 0"),
        ({"rate": float("nan")}, "rate=nan: Input should be a finite number"),
        ({"rate": "high"}, "rate='high': Input should be a valid number"),
        ({"size": 1}, "size=1: Input should be greater than or equal to 2 or .* 'row'"),
        ({"names": "ab"}, "names='ab': Input should be a valid tuple"),
        ({"rate": -1, "size": 1}, "rate=-1: "),
    ],
)
def test_the_first_bad_value_is_named_in_one_line(values, message):
    with pytest.raises(OwnError, match=f"^{message}") as caught:
        Settings(**values)
    assert "\n" not in str(caught.value)
