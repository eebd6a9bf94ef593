"""Registry of classes by name: built-in ones, those of installed packages, and local ones."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
DISTRIBUTION = "lm-eval-muse"
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered class.

    Attributes:
        cls: Configuration class, a dataclass.
        preset: Values of the parameters that the name fixes.
    """

    cls: type[T]
    preset: dict[str, Any]


class PluginRegistry(Generic[T]):
    """Classes of one kind by name, with lazy discovery of built-in modules and entry points.

    Args:
        kind: Word for the classes in messages, ``"quantizer"``.
        base: Class that all registered classes inherit from.
        methods: Name of the package of the built-in classes. Its modules register them when
            imported; modules with a leading underscore are skipped.
        group: Entry-point group of other distributions.
        error_class: Class of all errors raised here.
        check: Called with name and class before a class is registered; raises to refuse it.
    """

    def __init__(
        self,
        kind: str,
        base: type[T],
        methods: str,
        *,
        group: str,
        error_class: type[ValueError],
        check: Callable[[str, type[T]], None] = lambda name, cls: None,
    ) -> None:
        self.kind, self.base, self.methods, self.group = kind, base, methods, group
        self.error_class, self.check = error_class, check
        self._objs: dict[str, Entry[T]] = {}
        self._distributions: dict[str, str] | None = None

    def register(self, name: str, cls: type[T], preset: dict[str, Any]) -> None:
        """Make ``cls`` available as ``name``.

        Args:
            name: Small letters, digits, ``_``, ``.`` and ``-``.
            cls: Configuration class, a dataclass.
            preset: Values of the parameters that the name fixes.

        Raises:
            ValueError: The name is taken, or the class is refused; an ``error_class``.
        """
        self.check_name(name)
        if name in self._objs:
            raise self.error_class(
                f"{self.kind} '{name}' of {cls.__module__} is already registered by "
                f"{self._objs[name].cls.__module__}; choose another name"
            )
        self.check(name, cls)
        self._objs[name] = Entry(cls, preset)

    def check_name(self, name: str) -> None:
        """Check that a name can be a part of a file name.

        Raises:
            ValueError: It cannot; an ``error_class``.
        """
        if not NAME.fullmatch(name):
            raise self.error_class(
                f"{self.kind} name {name!r}: use small letters, digits, '_', '.' and '-' (records "
                "are named by it)"
            )

    def entries(self) -> dict[str, Entry[T]]:
        """Return all registered classes by name, sorted."""
        self.distributions()
        return dict(sorted(self._objs.items()))

    def distributions(self) -> dict[str, str]:
        """Return the distribution of every name, sorted; ``local`` for a class of a loaded file.

        The first call imports the built-in modules and the entry points.

        Raises:
            ValueError: An entry point cannot be loaded, or its name is taken; an ``error_class``.
        """
        if self._distributions is None:
            self._distributions = self._discover()
        return {name: self._distributions.get(name, "local") for name in sorted(self._objs)}

    def build(self, name: str, params: dict[str, Any]) -> T:
        """Build the configuration ``name`` with the given parameters.

        Args:
            name: Registered name.
            params: Parameters of the class by name, over the preset ones.

        Raises:
            ValueError: An unknown name (with the nearest ones), an unknown, missing or bad
                parameter, or one that contradicts the name; an ``error_class``.
        """
        entries = self.entries()
        if name not in entries:
            near = difflib.get_close_matches(name, entries, n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise self.error_class(
                f"unknown {self.kind} '{name}': {hint}available: {', '.join(entries)}"
            )
        cls, preset = entries[name].cls, entries[name].preset
        fields: dict[str, Any] = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for param, value in params.items():
            if param not in fields:
                free = ", ".join(field for field in fields if field not in preset)
                raise self.error_class(
                    f"{self.kind} '{name}' has no parameter '{param}': available: {free or 'none'}"
                )
            if param in preset and value != preset[param]:
                raise self.error_class(
                    f"{self.kind} '{name}' means {param}={preset[param]!r}, not {value!r}; choose "
                    "another name"
                )
        values = preset | params
        for param, field in fields.items():
            if param not in values and field.default is field.default_factory:  # both MISSING
                raise self.error_class(f"{self.kind} '{name}' needs a value of '{param}'")
        try:
            return cls(**values)
        except ValueError as error:
            raise self.error_class(f"{self.kind} '{name}': {error}") from error

    def _discover(self) -> dict[str, str]:
        """Import built-in modules and entry points; return the distribution of every name."""
        package = importlib.import_module(self.methods)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.methods}.{module.name}")
        distributions = {
            name: DISTRIBUTION
            for name, entry in self._objs.items()
            if entry.cls.__module__.startswith(f"{self.methods}.")
        }
        for point in entry_points(group=self.group):
            owner = point.dist.name if point.dist else point.value
            whose = f"{self.kind} '{point.name}' of distribution {owner}"
            if point.name in distributions:
                raise self.error_class(
                    f"{whose} is already registered by distribution {distributions[point.name]}; "
                    "uninstall one of them"
                )
            try:
                target = point.load()
            except Exception as error:
                raise self.error_class(f"{whose} cannot be loaded: {error!r}") from error
            if not (isinstance(target, type) and issubclass(target, self.base)):
                raise self.error_class(
                    f"{whose} is {point.value}; the entry point must name a subclass of "
                    f"{self.base.__module__.partition('.')[0]}.{self.base.__name__}"
                )
            if point.name not in self._objs:  # its module may have used the decorator itself
                self.register(point.name, target, {})
            distributions[point.name] = owner
        return distributions
