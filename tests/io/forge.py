"""Checkpoints made by hand, to be wrong in one way each."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile

import pytest

from amity.core.errors import FormatError
from amity.io import load

END = b"."


def archive(data_pkl, records=(), folder="archive", **options):
    """A zip with this pickle and these (name, bytes) records."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as out:
        for name, data in [("data.pkl", data_pkl), *records]:
            out.writestr(f"{folder}/{name}", data)
    return file.getvalue()


def refuse(data, words):
    with pytest.raises(FormatError, match=words) as caught:
        load(io.BytesIO(data))
    assert str(caught.value).startswith("load: got ")


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    return pickle.dumps(value, 2)[2:-1]


def storage(kind="FloatStorage", key="0", location="cpu", numel=4):
    name = b"ctorch\n" + kind.encode() + b"\n"
    return b"(" + text("storage") + name + text(key) + text(location) + number(numel) + b"tQ"


def tensor(store=None, offset=0, size=(2, 2), stride=(2, 1), grad=False, hooks=b"}", more=b""):
    arguments = (store or storage()) + number(offset) + number(size) + number(stride)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + number(grad) + hooks + more + b"tR"


def with_tensor(data=bytes(16), **claims):
    return archive(tensor(**claims) + END, [("data/0", data)])
