"""A log of records that survives being killed: one line of JSON a record, appended whole.

A process that dies while it appends leaves at most a last line without its end. It is cut off
before anything is appended again, so that what is read is always whole records.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hyperstyle_rt.files import reason

from .errors import ComparisonError

Record = dict[str, Any]


class Log:
    """Records in a file, in the order they were appended.

    Raises
    ------
    ComparisonError
        On construction, if the file cannot be read, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.records: list[Record] = []
        try:
            data = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise ComparisonError(f"cannot read {path}: {reason(error)}") from None
        whole, _, torn = data.rpartition(b"\n")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise ComparisonError(
                    f"line {number} of {path} is no record; remove the line, or give another --out"
                )
            self.records.append(record)
        if torn:
            try:
                os.truncate(path, len(data) - len(torn))
            except OSError as error:
                raise ComparisonError(f"cannot write {path}: {reason(error)}") from None

    def append(self, record: Record) -> None:
        """Append a record, and wait until it is on the disk."""
        line = json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(line.encode())
                os.fsync(file.fileno())
        except OSError as error:
            raise ComparisonError(f"cannot write {self._path}: {reason(error)}") from None
        self.records.append(record)
