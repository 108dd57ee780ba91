"""Results as Parquet: one table of inversions, one of pictures that could not be inverted.

Below a directory, which may be a URL of any of pyarrow's file systems:

- ``inversions/settings=HASH/part-RUN-BLOCK.parquet``: a row for every face or whole picture, as
  :func:`inversion_schema` has it; HASH tells settings apart;
- ``errors/run=RUN/part-BLOCK.parquet``: name, source and error of what a run could not invert.

A part appears whole or not at all, and its name follows from what is in it: who does a block of
pictures once more replaces the part and adds no second one. Hidden names are of no part.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..batch.results import InvertedFace, Settings
from ..errors import HyperStyleError, PictureError
from ..imaging.pictures import READABLE_SUFFIXES, resize_bilinear
from .urls import filesystem_of

INVERSIONS, ERRORS = "inversions", "errors"

Row = dict[str, Any]


@dataclass(frozen=True)
class Tables:
    """Where the tables of a run are.

    Attributes
    ----------
    directory:
        Of all runs.
    settings:
        Of this run's inversions.
    run:
        Identifies this run.
    """

    directory: Path
    settings: Settings
    run: str

    @property
    def inversions(self) -> Path:
        """Directory of the inversions with these settings."""
        return self.directory / INVERSIONS / f"settings={settings_hash(self.settings)}"

    @property
    def errors(self) -> Path:
        """Directory of this run's errors."""
        return self.directory / ERRORS / f"run={self.run}"

    def write(
        self, names: Sequence[str], rows: Sequence[Row], errors: Sequence[Mapping[str, str]]
    ) -> None:
        """Write what became of a block of pictures.

        Parameters
        ----------
        names:
            Of all its pictures.
        rows:
            Of :func:`row_of`.
        errors:
            ``name``, ``source`` and ``error``.

        Raises
        ------
        HyperStyleError
            If it cannot be written.
        """
        import pyarrow as pa

        block = hashlib.sha256("\0".join(names).encode()).hexdigest()[:16]
        if rows:
            part = self.inversions / f"part-{self.run}-{block}.parquet"
            _write(part, pa.Table.from_pylist(list(rows), inversion_schema()))
        if errors:
            texts = pa.schema([(name, pa.string()) for name in ("name", "source", "error")])
            _write(self.errors / f"part-{block}.parquet", pa.Table.from_pylist(errors, texts))

    def done(self) -> frozenset[tuple[str, str]]:
        """Name and SHA-256 of all pictures that have been inverted with these settings.

        Raises
        ------
        HyperStyleError
            If the table cannot be read.
        """
        found: set[tuple[str, str]] = set()
        import pyarrow as pa
        import pyarrow.parquet as pq

        filesystem, _ = filesystem_of(self.directory)
        for path in self._parts():
            try:
                table = pq.read_table(path, columns=["name", "picture"], filesystem=filesystem)
            except (OSError, pa.ArrowException) as error:
                raise HyperStyleError(
                    f"cannot read {path}, which was to hold inversions: {error}; move it away"
                ) from error
            columns = (table.column(name).to_pylist() for name in ("name", "picture"))
            found |= set(zip(*columns, strict=True))
        return frozenset(found)

    def check_new(self) -> None:
        """Refuse a table that has inversions with these settings already.

        Raises
        ------
        HyperStyleError
            If so.
        """
        if self._parts():
            raise HyperStyleError(
                f"{self.inversions} has inversions already; add to them with --resume, or give "
                "another --parquet"
            )

    def _parts(self) -> list[str]:
        from pyarrow import fs

        filesystem, path = filesystem_of(self.inversions)
        try:
            infos = filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))
        except OSError as error:
            raise HyperStyleError(f"cannot look into {self.inversions}: {error}") from error
        return sorted(
            info.path
            for info in infos
            if info.extension == "parquet" and not info.base_name.startswith((".", "_"))
        )


def inversion_schema() -> Any:
    """The columns of the table of inversions, a pyarrow schema.

    ``latents`` and ``codes`` are float32 in rows, with their shapes beside them; ``codes`` is null
    where there are none. ``inversion`` is the whole inversion file where one was asked for:
    ``Inversion.from_bytes`` reads it. ``l2`` is the mean square of the difference between the
    picture and its reconstruction, black being -1 and white 1.
    """
    import pyarrow as pa

    shape, values = pa.list_(pa.int32()), pa.list_(pa.float32())
    return pa.schema(
        [
            ("name", pa.string()),
            ("source", pa.string()),
            ("picture", pa.string()),
            ("face", pa.int32()),
            ("faces", pa.int32()),
            ("bundle", pa.string()),
            ("space", pa.string()),
            ("method", pa.string()),
            ("settings", pa.string()),
            ("computed", pa.string()),
            ("iterations", pa.int32()),
            ("l2", pa.float32()),
            ("latents", values),
            ("latents_shape", shape),
            ("codes", values),
            ("codes_shape", shape),
            ("transform", values),
            ("inversion", pa.binary()),
        ]
    )


def row_of(
    name: str, source: Path, face: InvertedFace, faces: int, digest: str, settings: Settings
) -> Row:
    """The row of an inverted face or picture.

    Parameters
    ----------
    name, source:
        What results are named after, and where the picture is.
    faces:
        How many rows the picture has.
    digest:
        SHA-256 of the picture's file.
    """
    data = face.inversion.data
    return {
        "name": name,
        "source": str(source),
        "picture": digest,
        "face": face.number,
        "faces": faces if face.number else 0,
        "bundle": data.bundle_name,
        "space": data.space,
        "method": data.method,
        "settings": _canonical(settings.to_json()),
        "computed": _canonical(dict(data.computed)),
        "iterations": data.iterations,
        "l2": _mean_square(face),
        "latents": data.latents.ravel(),
        "latents_shape": data.latents.shape,
        "codes": None if data.codes is None else data.codes.ravel(),
        "codes_shape": None if data.codes is None else data.codes.shape,
        "transform": None if data.transform is None else data.transform.ravel(),
        "inversion": face.inversion.to_bytes() if settings.inversion else None,
    }


def settings_hash(settings: Settings) -> str:
    """16 hexadecimal digits that tell settings apart."""
    return hashlib.sha256(_canonical(settings.to_json()).encode()).hexdigest()[:16]


def _canonical(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _mean_square(face: InvertedFace) -> float:
    made = face.inversion.image
    given = resize_bilinear(face.crop, (made.shape[0], made.shape[1]))
    difference = (np.float32(given) - np.float32(made)) / 127.5
    return float(np.mean(np.square(difference), dtype=np.float64))


def _write(path: Path, table: Any) -> None:
    """Write a part under a hidden name and give it its own when it is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    filesystem, final = filesystem_of(path)
    folder, _, name = final.rpartition("/")
    temporary = f"{folder}/.{uuid.uuid4().hex}.{name}"
    try:
        filesystem.create_dir(folder, recursive=True)
        pq.write_table(table, temporary, filesystem=filesystem, compression="zstd")
        filesystem.move(temporary, final)
    except (OSError, pa.ArrowException) as error:
        with contextlib.suppress(OSError):
            filesystem.delete_file(temporary)
        raise PictureError(f"cannot write {path}: {error}") from error


def picture_names(tables: Sequence[Path]) -> list[str]:
    """Names of the pictures in tables of pictures, in their order, as :func:`picture_name` gives.

    Raises
    ------
    PictureError
        If one cannot be read, lacks the columns of :func:`picture_columns`, or has a name that is
        not below a folder or that another one has.
    """
    import pyarrow as pa
    import pyarrow.dataset as ds

    found: dict[str, Path] = {}
    for table in tables:
        filesystem, path = filesystem_of(table)
        try:
            dataset = ds.dataset(path, format="parquet", filesystem=filesystem)
            column, _ = picture_columns(dataset.schema.names, table)
            raw = dataset.to_table(columns=[column]).column(0).to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise PictureError(f"cannot read {table}: {error}") from error
        for each in raw:
            name = picture_name(each)
            place = PurePosixPath(name)
            if not place.name or place.is_absolute() or ".." in place.parts or "\0" in name:
                raise PictureError(
                    f"{table} has a picture named {each!r}, and results are named after it; name "
                    "it by a path below a folder"
                )
            if name in found:
                raise PictureError(
                    f"{found[name]} and {table} have a picture {name!r} each, after which results "
                    "are named; give every picture a name of its own"
                )
            found[name] = table
    return list(found)


def picture_name(raw: object) -> str:
    """What results are named after: a name in a table, without the suffix of a picture's file."""
    name = str(raw)
    place = PurePosixPath(name)
    return str(place.with_suffix("")) if place.suffix.lower() in READABLE_SUFFIXES else name


def picture_columns(columns: Sequence[str], table: Path) -> tuple[str, str]:
    """The columns of a table of pictures: names, and contents of picture files.

    Raises
    ------
    PictureError
        If it has no such columns.
    """
    names = next((each for each in ("name", "path", "file_name", "id") if each in columns), None)
    contents = next((each for each in ("bytes", "content", "image_bytes") if each in columns), None)
    if names is None or contents is None:
        raise PictureError(
            f"{table} has the columns {', '.join(columns)}; a table of pictures has their files in "
            "`bytes` and their names in `name` or `path`"
        )
    return names, contents
