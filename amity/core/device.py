"""Where a tensor lives."""

from __future__ import annotations

KINDS = ("cpu", "meta")


class Device:
    """A device by kind and index, as `amity.device("cpu")`.

    >>> Device("cpu")
    device(type='cpu')
    """

    __slots__ = ("index", "type")
    type: str
    index: int | None
    _made: dict[tuple[str, int | None], Device] = {}

    def __new__(cls, type: str | Device = "cpu", index: int | None = None) -> Device:
        if isinstance(type, Device):
            return type
        if not isinstance(type, str):
            raise TypeError(f"device: got {type!r}; expected a string such as 'cpu'")
        kind, _, number = type.partition(":")
        if kind not in KINDS:
            raise RuntimeError(f"device: got {type!r}; expected one of {', '.join(KINDS)}")
        if number:
            if not number.isdigit():
                raise RuntimeError(f"device: got {type!r}; expected a number after the colon")
            index = int(number)
        key = (kind, index)
        made = cls._made.get(key)
        if made is None:
            made = object.__new__(cls)
            made.type, made.index = key
            cls._made[key] = made
        return made

    def __repr__(self) -> str:
        tail = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{tail})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __reduce__(self) -> tuple:
        return (Device, (self.type, self.index))

    def __enter__(self) -> Device:
        """New tensors live here until the block ends."""
        _default.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _default.pop()


CPU = Device("cpu")
META = Device("meta")
_default = [CPU]


def get_default_device() -> Device:
    """The device of new tensors that name none.

    >>> get_default_device()
    device(type='cpu')
    """
    return _default[-1]


def set_default_device(device: str | Device | None) -> None:
    """Set the device of new tensors that name none; None means the CPU."""
    _default[0] = CPU if device is None else Device(device)


def placed(device: str | Device | None) -> Device:
    """The device that an argument `device` names."""
    return _default[-1] if device is None else Device(device)
