"""Tables of tags: every cell is used or told of, with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcsp.corpus.sources.names import ImageFiles
from dcsp.corpus.sources.tag_tables import read_tags, split_tags
from dcsp.errors import CorpusError

NOTHING = ImageFiles("", ())
HEAD = "image,tags\n"


def told(path: Path, content: str | bytes | pa.Table) -> dict[str, set[str]]:
    """Image → its tags."""
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return {image: tagged.tags for image, tagged in read_tags(str(path), NOTHING).items()}


GOOD = HEAD + 'a.jpg,"cat, dog"\nb.jpg,cat;fish\nc.jpg,\n'
FORMS = {
    "plain": GOOD,
    "with a BOM": "\ufeff" + GOOD,
    "UTF-16": GOOD.encode("utf-16"),
    "line ends of Windows": GOOD.replace("\n", "\r\n"),
    "line ends of old": GOOD.replace("\n", "\r"),
    "semicolons": 'image;tags\na.jpg;cat,dog\nb.jpg;"cat;fish"\nc.jpg;\n',
    "tabs": "image\ttags\na.jpg\tcat, dog\nb.jpg\tcat;fish\nc.jpg\t\n",
    "sep=": "sep=;\r\nimage;tags\r\na.jpg;cat,dog\r\nb.jpg;cat,fish\r\nc.jpg;\r\n",
    "sep=, in quotes": '"sep=\t"\nimage\ttags\na.jpg\tcat,dog\nb.jpg\tcat,fish\nc.jpg\t\n',
    "spaces": ' Image , TAGS\na.jpg, "cat , dog" \n"b.jpg" ,cat ; fish\nc.jpg, \n',
    "blank lines": "\n \n" + GOOD.replace("\n", "\n\n,\n ,, \n"),
    "blank cells": GOOD.replace("\n", ",,\n"),
    "blank cells of the rows": HEAD + GOOD.removeprefix(HEAD).replace("\n", ",\n"),
    "an index before": ",image,tags\n0,a.jpg,cat;dog\n1,b.jpg,cat;fish\n2,c.jpg,\n",
    "notes": 'note,tags,image,note\n"x\ny",cat;dog,a.jpg,z\n,cat;fish,b.jpg\n,,c.jpg,\n',
    "tags on two lines": HEAD + 'a.jpg,"cat,\ndog"\nb.jpg,"cat\n;fish\n"\nc.jpg,\n',
    "rows that add up": HEAD + "a.jpg,cat\nb.jpg,fish\nc.jpg,\na.jpg,dog\nb.jpg,cat\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_csv_table_says_the_same_in_every_form(tmp_path: Path, form: str) -> None:
    found = told(tmp_path / "tags.csv", FORMS[form])
    assert found == {"a.jpg": {"cat", "dog"}, "b.jpg": {"cat", "fish"}, "c.jpg": set()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "a.jpg,cat,dog\n", "line 2 has 'dog' below no column"),
        (HEAD + "a.jpg,cat\nb.jpg,cat,train\n", "line 3 has 'train' below no column"),
        ("image,tags,,\na.jpg,cat,,dog\n", "line 2 has 'dog' below no column"),
        ("image,tags,split\na.jpg,cat,dog,train\n", "line 2 has 'train' below no column"),
        ("image;tags\na.jpg;cat;dog\n", "line 2 has 'dog' below no column"),
        (HEAD + "a.jpg,cat" + HEAD + "b.jpg,dog\n", "line 2 has 'tags' below no column"),
        (HEAD + "a.jpg,cat\n\nb.jpg;dog\n", "line 4 has 1 of the 2 cells"),
        (HEAD + "a.jpg\n", "line 2 has 1 of the 2 cells"),
        ("image,tags,split\na.jpg,val\n", "line 2 has 2 of the 3 cells"),
        (HEAD + "# a comment\na.jpg,cat\n", "line 2 has 1 of the 2 cells"),
        ("# a comment\n" + HEAD, "line 1 needs the columns image and tags, .* '# a comment'"),
        ("a.jpg,cat\n", "line 1 needs the columns image and tags, .* 'a.jpg', 'cat'"),
        ("\nfile,labels\na.jpg,cat\n", "line 2 needs the columns .* 'file', 'labels'"),
        ("sep=;\nimage,tags\na.jpg,cat\n", "line 2 needs the columns .* 'image,tags'"),
        ("image,tags,Tags \na.jpg,cat,dog\n", "line 1 has the column tags twice"),
        ("image,tags,image\na.jpg,cat,b.jpg\n", "line 1 has the column image twice"),
        (HEAD + 'a.jpg,"cat\nb.jpg,dog\n', "line 2 has a cell that cannot be read"),
        (HEAD + 'a.jpg,"cat\nb.jpg,"dog\n', "line 2 has a cell that cannot be read"),
        (HEAD + 'a.jpg,"cat\nb.jpg,dog"\n', "line 2 has a cell that goes over several lines"),
        (HEAD + '\n"a.jpg,cat\nb.jpg",dog\n', "line 3 has a cell that goes over several lines"),
        (HEAD + 'a.jpg,"a \\"cat\\", dog"\n', "line 2 has a cell that cannot be read"),
        (HEAD + f'a.jpg,"{"cat," * 50_000}"\n', "line 2 has a cell that cannot be read"),
        (HEAD + "a.jpg,c\0at\n", "line 2 cannot be read .* UTF-8"),
        (HEAD.encode("utf-16-le"), "line 1 cannot be read .* UTF-8"),
        (HEAD.encode("utf-32"), "line 1 cannot be read .* UTF-8"),
        ((HEAD + "a.jpg,cat\nb.jpg,Bär\n").encode("latin-1"), "line 3 cannot be read .* UTF-8"),
        ("", "has no rows"),
        ("\n \n", "has no rows"),
        (HEAD, "has no rows"),
    ],
)
def test_what_a_csv_table_leaves_open_ends_with_its_line(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    with pytest.raises(CorpusError, match=rf"tags\.csv[, ]+{message}"):
        told(tmp_path / "tags.csv", text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "b", "tags":', "cannot be read .*at character 23"),
        ('{"image": "b", "tags": "cat"} {}', "cannot be read .Extra data at character 31"),
        (
            '{"image": "b", "tags": "cat", "tags": "dog"}',
            "cannot be read .the key 'tags' is there twice",
        ),
        ('{"image": "b", "tags": "cat", "Tags": "dog"}', "has the column tags twice"),
        ('{"image": "b"}', "needs the columns image and tags, .* 'image'"),
        ('{"image": "b", "tags": {"cat": 1}}', "neither text nor a list of text"),
        ('{"image": "b", "tags": ["cat", ["dog"]]}', "neither text nor a list of text"),
        ('{"image": ["b"], "tags": "cat"}', "neither text nor a list of text"),
        ('[{"image": "b", "tags": "cat"}]', "is no JSON object"),
        ("3", "is no JSON object"),
    ],
)
def test_what_a_jsonl_table_leaves_open_ends_with_its_line(
    tmp_path: Path, line: str, message: str
) -> None:
    good = '{"Image": "a", " tags ": ["cat", 3, null]}\n\n'
    assert told(tmp_path / "tags.jsonl", good.encode("utf-16")) == {"a": {"cat", "3"}}
    with pytest.raises(CorpusError, match=f"tags.jsonl, line 3.* {message}"):
        told(tmp_path / "tags.jsonl", good + line)


@pytest.mark.parametrize("tags", [["cat, dog"], [["cat", "dog"]]])
def test_a_parquet_table_has_tags_as_text_or_lists(tmp_path: Path, tags: list[object]) -> None:
    table = pa.table({"Image": ["a.jpg"], "Tags": tags})
    assert told(tmp_path / "tags.parquet", table) == {"a.jpg": {"cat", "dog"}}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([("image", ["a"]), ("tags", ["cat"]), ("tags", ["dog"])], "has the column tags twice"),
        ([("image", ["a"]), ("labels", ["cat"])], "needs the columns .* 'image', 'labels'"),
        ([("image", ["a", "b"]), ("tags", [b"cat", b"dog"])], "row 1 has a cell that is neither"),
        ([("image", ["a"]), ("tags", [[{"name": "cat"}]])], "row 1 has a cell that is neither"),
        ([("image", pa.array([], pa.string())), ("tags", pa.array([], pa.string()))], "no rows"),
    ],
)
def test_what_a_parquet_table_leaves_open_is_told(
    tmp_path: Path, columns: list[tuple[str, list[object]]], message: str
) -> None:
    table = pa.Table.from_arrays([pa.array(c) for _, c in columns], [name for name, _ in columns])
    with pytest.raises(CorpusError, match=rf"tags\.parquet.* {message}"):
        told(tmp_path / "tags.parquet", table)


def test_a_key_that_is_twice_in_other_json_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"images": [], "categories": [], "annotations": []})
    with pytest.raises(CorpusError, match=r"cannot be read .the key 'images' is there twice"):
        told(tmp_path / "a.json", text.replace("{", '{"images": [1], '))


@pytest.mark.parametrize("name", ["instances_x.json", "tags.jsonl"])
def test_brackets_without_end_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[" * 200_000)
    with pytest.raises(CorpusError, match="cannot be read"):
        read_tags(str(tmp_path / name), NOTHING)


def test_cells_are_split_at_commas_and_semicolons() -> None:
    assert split_tags(" cat; potted plant ,,dog") == ["cat", "potted plant", "dog"]
    assert split_tags(["a,b", 3, None]) == ["a,b", "3"]
    assert split_tags(None) == []
