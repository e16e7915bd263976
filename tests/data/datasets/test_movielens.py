from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from weiml.data.datasets.movielens import (
    GENRES,
    MovieLensSources,
    build_movielens,
    read_archive,
    read_wheel,
    split_title,
)
from weiml.data.datasets.registry import Workshop
from weiml.errors import DataError, FetchError

RATINGS = [(2, 3, 4, 900), (1, 2, 5, 800), (1, 1, 3, 900), (2, 1, 1, 900)]
USERS = [(1, 24, "M", "technician", "85711"), (2, 53, "F", "other", "T8H1N")]
ITEMS = [  # id, title, year, in the archive's forms; genres
    (1, "Usual Suspects, The", "1995", ["Crime", "Thriller"]),
    (2, "Misérables, Les", "1995", ["Drama"]),
    (3, "Marlene Dietrich: Shadow and Light", "1996", ["Animation", "Children's", "Sci-Fi"]),
]
INNER = "recbole/dataset_example/ml-100k/ml-100k"


def put(archive: zipfile.ZipFile, name: str, data: str | bytes) -> None:
    """Add a member with a fixed time, so that equal archives have equal digests."""
    archive.writestr(zipfile.ZipInfo(name, (1998, 4, 22, 0, 0, 0)), data)


def write_archive(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        lines = ["\t".join(map(str, row)) + "\n" for row in RATINGS]
        put(archive, "ml-100k/u.data", "".join(lines))
        put(archive, "ml-100k/u.user", "".join("|".join(map(str, u)) + "\n" for u in USERS))
        items = io.StringIO()
        for item, title, year, genres in ITEMS:
            space = " " if "Marlene" in title else ""  # as in the real file
            flags = "|".join("1" if genre in genres else "0" for genre in GENRES)
            items.write(f"{item}|{title} ({year}){space}|01-Jan-{year}||http://x|{flags}\n")
        items.write("267|unknown||||1" + "|0" * 18 + "\n")
        put(archive, "ml-100k/u.item", items.getvalue().encode("latin-1"))
    return path


def write_copy(path: Path) -> Path:
    heads = {
        "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n",
        "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n",
        "item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n",
    }
    items = [(i, t, y, " ".join(g)) for i, t, y, g in ITEMS] + [
        (267, "unkonwn", "unkonwn", "unknown")
    ]
    rows: dict[str, Sequence[tuple[object, ...]]] = {
        "inter": RATINGS,
        "user": USERS,
        "item": items,
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for kind, table in rows.items():
            lines = "".join("\t".join(map(str, row)) + "\n" for row in table)
            put(wheel, f"{INNER}.{kind}", heads[kind] + lines)
    return path


def sources_for(archive: Path, wheel: Path) -> MovieLensSources:
    def digest(data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    with zipfile.ZipFile(wheel) as members:
        inner = {kind: members.read(f"{INNER}.{kind}") for kind in ("inter", "user", "item")}
    return MovieLensSources(
        archive_url="http://127.0.0.1:9/ml-100k.zip",
        archive_sha256=digest(archive.read_bytes()),
        timeout_s=5.0,
        requirement="recbole==1.2.1",
        wheel_sha256=digest(wheel.read_bytes()),
        ratings_sha256=digest(inner["inter"]),
        items_sha256=digest(inner["item"]),
        users_sha256=digest(inner["user"]),
    )


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "by_hand").mkdir()
    return Workshop(scratch=tmp_path / "scratch", by_hand=tmp_path / "by_hand")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MovieLensSources:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return sources_for(write_archive(tmp_path / "a.zip"), write_copy(tmp_path / "w.whl"))


def test_both_sources_give_the_same_tables(tmp_path: Path) -> None:
    archive = read_archive(write_archive(tmp_path / "ml-100k.zip"))
    wheel = read_wheel(write_copy(tmp_path / "copy.whl"))
    assert archive.keys() == wheel.keys() == {"ratings", "users", "items"}
    for name, table in archive.items():
        assert table.schema == wheel[name].schema
        assert table.equals(wheel[name]), name


def test_the_canonical_form(tmp_path: Path) -> None:
    tables = read_archive(write_archive(tmp_path / "ml-100k.zip"))
    assert tables["ratings"].schema == pa.schema(
        {
            "user_id": pa.int32(),
            "item_id": pa.int32(),
            "rating": pa.float32(),
            "timestamp": pa.int64(),
        }
    )
    rows = zip(*(column.to_pylist() for column in tables["ratings"].columns), strict=True)
    assert list(rows) == [(1, 2, 5.0, 800), (1, 1, 3.0, 900), (2, 1, 1.0, 900), (2, 3, 4.0, 900)]
    assert tables["users"].to_pylist()[1] == {
        "user_id": 2,
        "age": 53,
        "gender": "F",
        "occupation": "other",
        "zip_code": "T8H1N",
    }
    items = tables["items"].to_pylist()
    assert [item["title"] for item in items] == [
        "The Usual Suspects",
        "Les Misérables",
        "Marlene Dietrich: Shadow and Light",
        "unknown",
    ]
    assert [item["release_year"] for item in items] == [1995, 1995, 1996, None]
    assert items[2]["genres"] == ["Animation", "Children's", "Sci-Fi"]
    assert items[3]["genres"] == ["unknown"]


@pytest.mark.parametrize(
    ("text", "title", "year"),
    [
        ("Toy Story (1995)", "Toy Story", 1995),
        ("Appartement, L' (1996)", "L'Appartement", 1996),
        ("Marlene Dietrich: Shadow and Light (1996) ", "Marlene Dietrich: Shadow and Light", 1996),
        ("Land Before Time III (1995) (V)", "Land Before Time III", 1995),
        (
            "Double vie de Véronique, La (Double Life of Veronique, The) (1991)",
            "La Double vie de Véronique (The Double Life of Veronique)",
            1991,
        ),
        ("Good, The Bad and The Ugly, The (1966)", "The Good, The Bad and The Ugly", 1966),
        ("Paris, Texas (1984)", "Paris, Texas", 1984),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("unknown", "unknown", None),
    ],
)
def test_titles(text: str, title: str, year: int | None) -> None:
    assert split_title(text) == (title, year)


def test_a_file_put_there_by_hand_is_used(
    workshop: Workshop, sources: MovieLensSources, tmp_path: Path
) -> None:
    write_archive(workshop.by_hand / "ml-100k.zip")
    assert build_movielens(sources, workshop)["users"].num_rows == 2
    (workshop.by_hand / "ml-100k.zip").unlink()
    write_copy(workshop.by_hand / "recbole-1.2.1-py3-none-any.whl")
    assert build_movielens(sources, workshop)["users"].num_rows == 2


def test_without_any_source_the_error_says_what_was_tried_and_what_to_do(
    workshop: Workshop, sources: MovieLensSources
) -> None:
    with pytest.raises(FetchError) as caught:
        build_movielens(sources, workshop)
    for part in (
        sources.archive_url,
        "pip download recbole==1.2.1 failed",
        str(workshop.by_hand),
        "synthetic-feed",
    ):
        assert part in str(caught.value)


def test_a_damaged_archive_is_named_and_the_wheel_is_tried(
    workshop: Workshop, sources: MovieLensSources
) -> None:
    (workshop.by_hand / "ml-100k.zip").write_bytes(b"cut short")
    with pytest.raises(FetchError) as caught:
        build_movielens(sources, workshop)
    assert sources.archive_sha256 in str(caught.value)
    assert hashlib.sha256(b"cut short").hexdigest() in str(caught.value)
    write_copy(workshop.by_hand / "recbole-1.2.1-py3-none-any.whl")
    assert build_movielens(sources, workshop)["ratings"].num_rows == 4


@pytest.mark.parametrize("field", ["wheel_sha256", "ratings_sha256", "users_sha256"])
def test_each_digest_of_the_wheel_counts(
    workshop: Workshop, sources: MovieLensSources, field: str
) -> None:
    write_copy(workshop.by_hand / "recbole-1.2.1-py3-none-any.whl")
    wrong: dict[str, Any] = {field: "ab" * 32}
    with pytest.raises(FetchError, match="ab" * 32):
        build_movielens(replace(sources, **wrong), workshop)


def rewrite(path: Path, name: str, data: str) -> Path:
    with zipfile.ZipFile(path) as old:
        members = {inner: old.read(inner) for inner in old.namelist()}
    members[name] = data.encode()
    with zipfile.ZipFile(path, "w") as new:
        for inner, content in members.items():
            new.writestr(inner, content)
    return path


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("ml-100k/u.data", "1\t2\tthree\t4\n", "three"),
        ("ml-100k/u.data", "1\t2\t3\n", "columns"),
        ("ml-100k/u.item", "1|Toy Story|x\n", "line 1 has 3 fields"),
    ],
)
def test_a_malformed_archive_is_a_data_error(
    tmp_path: Path, name: str, data: str, said: str
) -> None:
    path = rewrite(write_archive(tmp_path / "ml-100k.zip"), name, data)
    with pytest.raises(DataError, match=said):
        read_archive(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [("head\n1\tToy Story\n", "line 2 has 2 fields"), ("head\n1\tT\t1995\tSpoof\n", "Spoof")],
)
def test_a_malformed_copy_is_a_data_error(tmp_path: Path, data: str, said: str) -> None:
    path = rewrite(write_copy(tmp_path / "copy.whl"), f"{INNER}.item", data)
    with pytest.raises(DataError, match=said):
        read_wheel(path)


def test_a_missing_member_is_a_data_error(tmp_path: Path) -> None:
    path = tmp_path / "empty.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(DataError, match=r"u\.data"):
        read_archive(path)
