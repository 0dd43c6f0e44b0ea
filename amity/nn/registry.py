"""The named members of a module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from weakref import ref


class Registry(dict):
    """Members of one kind (parameters, buffers or modules) by name.

    Each member is also an ordinary attribute of the owner, so `layer.weight` costs what any
    attribute costs; every way to change the registry changes the attribute with it.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: object, items: Mapping = {}) -> None:  # noqa: B006 (never written)
        super().__init__()
        self._owner = ref(owner)
        self.update(items)

    def _attributes(self) -> dict:
        owner = self._owner()
        return {} if owner is None else owner.__dict__

    def __setitem__(self, name: str, value: object) -> None:
        super().__setitem__(name, value)
        self._attributes()[name] = value

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._attributes().pop(name, None)

    def pop(self, name: str, *default: object) -> object:
        if name in self:
            self._attributes().pop(name, None)
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, object]:
        name, value = super().popitem()
        self._attributes().pop(name, None)
        return name, value

    def clear(self) -> None:
        while self:
            self.popitem()

    def update(self, items: Mapping | Iterable = (), **more: object) -> None:
        for name, value in dict(items, **more).items():
            self[name] = value

    def __ior__(self, items: Mapping | Iterable) -> Registry:
        self.update(items)
        return self

    def setdefault(self, name: str, value: object = None) -> object:
        if name not in self:
            self[name] = value
        return self[name]

    def copy(self) -> dict:
        return dict(self)

    def __reduce__(self) -> tuple:
        return dict, (dict(self),)
