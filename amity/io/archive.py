"""The container of a checkpoint: a zip file of uncompressed, aligned records in one folder."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .source import Source

PLAIN = (io.BytesIO, io.BufferedWriter, io.BufferedRandom)
ALIGNMENT = 64  # bytes; what mapped tensors start at
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
NOT_A_ZIP = (
    zipfile.BadZipFile,
    NotImplementedError,
    struct.error,
    ValueError,
    OverflowError,
    EOFError,
    IndexError,
)


@dataclass(frozen=True, slots=True)
class Record:
    """Where the bytes of one record lie, and their checksum."""

    name: str
    offset: int
    size: int
    crc: int


def write_archive(
    file: Any, records: Iterable[tuple[str, np.ndarray | bytes]], folder: str = "archive"
) -> None:
    """Write (name, bytes) records, each starting at a multiple of 64.

    source: PKWARE APPNOTE.TXT 6.3.10, sections 4.3.7 (local header) and 4.5.3 (zip64).
    """
    is_plain = isinstance(file, PLAIN) and file.seekable()
    if not is_plain or file.tell():  # a zip is written with seeks, from byte 0
        whole = io.BytesIO()
        write_archive(whole, records, folder)
        file.write(whole.getbuffer())
        return
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in records:
            view = memoryview(data).cast("B") if len(data) else b""
            info = zipfile.ZipInfo(f"{folder}/{name}")
            info.file_size = len(view)
            is_zip64 = 2 * len(view) > zipfile.ZIP64_LIMIT
            header = LOCAL_HEADER.size + len(info.filename.encode()) + 20 * is_zip64
            start = file.tell() + header + 4
            padding = -start % ALIGNMENT
            info.extra = b"FB" + struct.pack("<H", padding) + b"\0" * padding
            with archive.open(info, "w", force_zip64=is_zip64) as out:
                out.write(view)
            info.extra = b""  # the directory at the end needs no padding


def read_archive(source: Source) -> dict[str, Record]:
    """The records of a checkpoint by name, without their folder; nothing is extracted.

    errors: FormatError for anything but uncompressed records that lie apart in one folder.
    """
    try:
        with zipfile.ZipFile(source.file) as archive:
            infos, end = archive.infolist(), archive.start_dir
    except NOT_A_ZIP as error:
        raise source.fail(f"not a readable zip ({error})", "a zip archive") from error
    if not infos:
        raise source.fail("an empty zip", "a checkpoint's records")
    folder = infos[0].filename.partition("/")[0]
    if any(info.filename == f"{folder}/constants.pkl" for info in infos):
        raise source.fail("a TorchScript program", "a checkpoint, such as its state_dict()")
    records: dict[str, Record] = {}
    for info in infos:
        name = check_name(source, info, folder)
        if name in records:
            raise source.fail(f"record {name!r} twice", "records with distinct names")
        records[name] = Record(name, data_offset(source, info), info.file_size, info.CRC)
    previous = 0
    for record in sorted(records.values(), key=lambda r: (r.offset, r.size)):
        if record.offset < previous:
            raise source.fail(
                f"record {record.name!r} overlapping another", "records that lie apart"
            )
        previous = record.offset + record.size
    if previous > end:
        raise source.fail("a record that runs into the directory", "records that lie apart")
    return records


def check_name(source: Source, info: zipfile.ZipInfo, folder: str) -> str:
    """The record's name inside `folder`, after refusing what a checkpoint never holds."""
    top, _, name = info.filename.partition("/")
    if top != folder or not name or {"", ".", ".."} & {top, *name.split("/")} or "\\" in name:
        raise source.fail(
            f"record {info.filename!r}", "plain names in one folder, such as 'archive/data/0'"
        )
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise source.fail(f"compressed record {name!r}", "uncompressed records")
    if info.flag_bits & 0x1:
        raise source.fail(f"encrypted record {name!r}", "records without encryption")
    return name


def data_offset(source: Source, info: zipfile.ZipInfo) -> int:
    """Where a record's bytes begin, from its own header, which must agree with the directory."""
    header = source.read(info.header_offset, LOCAL_HEADER.size)
    magic, _, flags, method, *_, name_size, extra_size = LOCAL_HEADER.unpack(header)
    start = info.header_offset + LOCAL_HEADER.size
    name = source.read(start, name_size)
    if magic != b"PK\3\4" or flags & 0x1 or method or name != info.orig_filename.encode():
        got = f"record {info.filename!r} whose header differs from the directory"
        raise source.fail(got, "headers that agree")
    offset = start + name_size + extra_size
    source.check(offset, info.file_size)
    return offset


def check_crc(source: Source, record: Record, data: np.ndarray) -> None:
    """Refuse bytes that are not those that were written."""
    if zlib.crc32(data) != record.crc:
        raise source.fail(f"damaged record {record.name!r}", "bytes that match their checksum")


def read_record(source: Source, record: Record) -> bytes:
    """The bytes of a small record, checked."""
    data = source.array(record.offset, record.size)
    check_crc(source, record, data)
    return data.tobytes()
