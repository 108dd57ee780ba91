"""What is opened and closed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import TypeVar

Opened = TypeVar("Opened", bound="Closable")


class Closable(ABC):
    """Something that holds memory or files until it is closed; a context manager does that."""

    @abstractmethod
    def close(self) -> None:
        """Give back what is held; to close twice does no harm."""

    def __enter__(self: Opened) -> Opened:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
