"""What routes do with what clients send, before a job is made of it."""

from __future__ import annotations

from fastapi import HTTPException, UploadFile

from ..imaging.films import default_film_suffix


async def read_upload(upload: UploadFile, limit: int) -> bytes:
    """The content of an uploaded file; its name is not looked at.

    Raises
    ------
    HTTPException
        413 if it has more than `limit` bytes, 422 if it is empty.
    """
    content = await upload.read(limit + 1)
    await upload.close()
    if len(content) > limit:
        raise HTTPException(413, f"the file is larger than {limit >> 20} MiB; send a smaller one")
    if not content:
        raise HTTPException(422, "the file is empty; send its content")
    return content


def film_format(named: str | None) -> str:
    """Format of a film: as named, or what can be written here."""
    return default_film_suffix()[1:] if named is None else named


def fractions_of(count: int, most: int, back: bool) -> tuple[float, ...]:
    """Fractions from 0 to 1 for every frame of a film, and back again where that is wanted.

    Raises
    ------
    HTTPException
        If there are too many.
    """
    total = 2 * count - 2 if back else count
    if total > most:
        raise HTTPException(
            422, f"the film has {total} frames, and this service makes {most}; ask for fewer"
        )
    there = [number / (count - 1) for number in range(count)]
    return tuple(there + there[-2:0:-1] if back else there)
