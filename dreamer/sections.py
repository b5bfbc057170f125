"""Frozen nested values with attribute access: what a config is made of, before it is known which keys there are."""

from collections.abc import KeysView
from typing import Any, NoReturn


class Section:
    """Frozen attribute access to nested values: `config.replay.batch`."""

    def __init__(self, values: dict[str, Any]):
        object.__setattr__(self, "_values", values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._values:
            raise AttributeError(f"the config has no key {name!r} here")
        value = self._values[name]
        return Section(value) if isinstance(value, dict) else value

    def keys(self) -> KeysView[str]:
        """Names of the keys here; with `[name]` this makes `**section` work."""
        return self._values.keys()

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a config is frozen: take config.replace to change {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a config is frozen: {name!r} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return self._values == other._values if isinstance(other, Section) else NotImplemented

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._values]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"

    def __reduce__(self) -> tuple:
        return type(self), (self._values,)
