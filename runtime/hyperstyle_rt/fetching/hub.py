"""Files of Hugging Face's hub, by its own library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import HyperStyleError
from ..files import sha256
from ..formats.fields import is_sha256
from ..user_cache import user_cache
from .sources import HubSource
from .transfer import NotThere, OnBytes, link_or_copy


class Hub:
    """Gives files of one repository at one commit.

    Raises
    ------
    HyperStyleError
        If the library is missing, or there is no such repository.
    """

    def __init__(self, source: HubSource) -> None:
        try:
            import huggingface_hub
        except ImportError:
            raise HyperStyleError(
                "repositories of Hugging Face need its library; install 'hyperstyle-rt[fetch]'"
            ) from None
        self._hub: Any = huggingface_hub
        self._source = source
        info = self._asked(
            lambda: huggingface_hub.model_info(source.repository, revision=source.revision)
        )
        self.revision: str | None = info.sha
        card = getattr(info, "card_data", None)
        self.license: str | None = getattr(card, "license", None) if card is not None else None

    def file(self, name: str, path: Path, limit: int, on_bytes: OnBytes) -> None:
        """Bring a file to a path; the library resumes what broke off."""
        where = self._source.file or name
        fetched = self._downloaded(where, anew=False)
        if _is_damaged(fetched):
            fetched = self._downloaded(where, anew=True)
        size = fetched.stat().st_size
        if size > limit:
            raise HyperStyleError(f"{name} has {size:,} bytes, more than can be right")
        link_or_copy(fetched, path)  # so that it takes its space once
        on_bytes(size, size)

    def _downloaded(self, where: str, anew: bool) -> Path:
        """A file's path in the library's cache, where it is already unless `anew`."""
        return Path(
            self._asked(
                lambda: self._hub.hf_hub_download(
                    self._source.repository,
                    where,
                    revision=self.revision,
                    cache_dir=user_cache() / "hub",
                    force_download=anew,
                )
            )
        )

    def _asked(self, ask: Any) -> Any:
        errors = self._hub.errors
        repository = self._source.repository
        try:
            return ask()
        except errors.EntryNotFoundError:
            raise NotThere(f"the repository {repository} has no such file") from None
        except errors.GatedRepoError:
            raise HyperStyleError(
                f"{repository} asks for a login and its terms to be agreed to; do that on its "
                "page, then run: hf auth login"
            ) from None
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
            raise HyperStyleError(
                f"there is no repository {repository} or no such revision of it; copy its name "
                "again"
            ) from None
        except (errors.HfHubHTTPError, OSError) as error:
            line = str(error).strip().partition("\n")[0]
            raise HyperStyleError(f"cannot fetch from {repository}: {line}") from None


def _is_damaged(path: Path) -> bool:
    """Whether a file of the library's cache is not what it was: it shares its bytes with ours.

    The cache names large files by their SHA-256, and the library does not look at them again.
    """
    blob = path.resolve()
    return is_sha256(blob.name) and sha256(blob) != blob.name
