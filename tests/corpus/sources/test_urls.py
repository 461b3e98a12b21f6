"""Which URLs of a tag table may be asked for, and what their images are called."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcsp.config import CorpusSettings, HttpSettings
from dcsp.config.file import parse_config
from dcsp.corpus.sources.base import is_valid_id
from dcsp.corpus.sources.folder import FolderSource
from dcsp.corpus.sources.open import open_source
from dcsp.corpus.sources.urls import (
    is_public,
    is_url,
    parse_url,
    require_allowed,
    require_listable,
    url_id,
)
from dcsp.errors import ConfigError, CorpusError, ImageError
from dcsp.text import without_credentials

HOSTS = ("img.example.org", "*.example.net", "10.0.0.7:8080")


def refusal(url: str, hosts: tuple[str, ...] = HOSTS) -> str:
    try:
        require_listable(url, hosts)
    except ImageError as error:
        assert error.reason == "http_refused"
        return str(error)
    return ""


@pytest.mark.parametrize(
    "url",
    [
        "http://img.example.org/a.jpg",
        "https://IMG.example.org/a b.jpg?w=1#top",
        "https://img.example.org:443/a.jpg",
        "https://a.example.net/x",
        "https://a.b.example.net/x",
        "http://10.0.0.7:8080/x",
    ],
)
def test_hosts_of_the_list_may_be_asked(url: str) -> None:
    assert refusal(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.jpg",
        "http://img.example.org.evil.com/a.jpg",
        "http://evilimg.example.org/a.jpg",
        "http://img.example.org:8080/a.jpg",
        "https://img.example.org:80/a.jpg",
        "http://example.net/a.jpg",
        "http://evilexample.net/a.jpg",
        "http://10.0.0.7/x",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/a.jpg",
        "http://localhost/a.jpg",
        "http://evil.com/img.example.org",
        "http://evil.com?http://img.example.org/",
        "http://evil.com#img.example.org",
        "http://evil.com/@img.example.org",
    ],
)
def test_no_other_host_may_be_asked(url: str) -> None:
    assert "corpus.http.hosts does not allow" in refusal(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://", "no http"),
        ("https:///a.jpg", "no http"),
        ("http://[::1/a.jpg", "no URL"),
        ("http://img.example.org:port/a.jpg", "no URL"),
        ("http://img.example.org:99999/a.jpg", "no URL"),
        ("http://bücher.example.net/a.jpg", "not ASCII"),
        ("http://me:secret@img.example.org/a.jpg", "credentials"),
        ("http://me@img.example.org/a.jpg", "credentials"),
        ("http://img.example.org/a.jpg?X-Amz-Signature=abc", "credentials"),
    ],
)
def test_what_is_no_plain_url_is_refused(url: str, told: str) -> None:
    assert told in refusal(url)


def test_no_url_is_allowed_unless_hosts_are_named() -> None:
    assert "corpus.http.hosts does not allow img.example.org" in refusal(
        "http://img.example.org/a", ()
    )


@pytest.mark.parametrize("host", ["*", "*.org", "http://a.org", "a.org/x", "a b", "", "a.org:"])
def test_odd_hosts_are_refused_by_the_config(host: str) -> None:
    with pytest.raises(ConfigError, match=r"corpus\.http\.hosts"):
        parse_config(
            {"store": "s", "corpus": {"kind": "folder", "root": "r", "http": {"hosts": [host]}}}
        )


def test_hosts_are_taken_whatever_their_case() -> None:
    settings = HttpSettings(hosts=("IMG.Example.org", "*.b.Example.org:81"))
    assert settings.hosts == ("img.example.org", "*.b.example.org:81")


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
        *("255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fe80::1%eth0"),
        *("fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1", "::ffff:127.0.0.1"),
        *("::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1", "64:ff9b::10.0.0.1"),
        *("64:ff9b:1::1", "2002:7f00:1::", "2002:c0a8:101::1", "100::1"),
        str(ipaddress.IPv6Address((0x20010000 << 96) | (0xFFFFFFFF ^ 0x0A000001))),  # Teredo
    ],
)
def test_addresses_that_are_not_public_are_told_in_every_form(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8"],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_a_form_of_an_address_is_as_public_as_the_address(ip: ipaddress.IPv4Address) -> None:
    number = int(ip)
    forms = [(0xFFFF << 32) | number, (0x64FF9B << 96) | number, (0x2002 << 112) | (number << 80)]
    for form in forms:
        assert is_public(str(ipaddress.IPv6Address(form))) == is_public(str(ip))


@pytest.mark.parametrize(
    ("url", "image_id"),
    [
        ("https://img.example.org/cats/1.jpg", "img.example.org/cats/1"),
        ("http://IMG.example.org/cats/1.jpg#x", "img.example.org/cats/1"),
        ("http://img.example.org:81/a.b.jpg", "img.example.org_81/a.b"),
        ("http://img.example.org/a%20b.jpg", "img.example.org/a%20b"),
    ],
)
def test_ids_are_hosts_and_paths(url: str, image_id: str) -> None:
    assert url_id(url) == image_id


def test_queries_make_other_images() -> None:
    ids = {url_id(f"http://h.org/photo.php{query}") for query in ("", "?n=1", "?n=2")}
    assert len(ids) == 3 and all(name.startswith("h.org/photo") for name in ids)


ODD = ["http://h.org", "http://h.org/", "http://h.org/../../etc/x.jpg", "http://h.org/a//b.jpg"]
ODD += [f"http://h.org/{'x' * 400}.jpg", "http://h.org/a\\b.jpg", "http://[::1]:80/a.jpg"]
ODD += ["http://h.org/ .jpg", "http://[/a.jpg", "http://h.org/a:b.jpg", "http://../a.jpg"]


@given(st.one_of(st.sampled_from(ODD), st.text(max_size=60).map("http://{}".format)))
def test_every_url_has_an_id_that_may_name_a_file(url: str) -> None:
    assert is_valid_id(url_id(url)), url_id(url)


@given(st.text(max_size=80))
def test_any_text_is_judged_without_a_crash(text: str) -> None:
    url = f"https://{text}"
    refusal(url)
    without_credentials(url)


def test_secrets_are_not_written_down() -> None:
    for url in ("http://me:hush@h.org/a.jpg?x=1", "http://h.org/a.jpg?token=hush#hush"):
        assert "hush" not in without_credentials(url)
    assert without_credentials("http://h.org/a.jpg?w=1") == "http://h.org/a.jpg?w=1"


def test_a_folder_lists_urls_and_refuses_those_that_it_must(tmp_path: Path) -> None:
    (tmp_path / "tags.csv").write_text(
        "image,tags,split\nhttps://img.example.org/a.jpg,cat,val\n"
        "http://other.org/a.jpg,dog,\nhttp://me:hush@img.example.org/b.jpg,dog,\n"
    )
    (tmp_path / "masks/img.example.org").mkdir(parents=True)
    (tmp_path / "masks/img.example.org/a.png").write_bytes(b"")
    settings = CorpusSettings(
        kind="folder",
        root=str(tmp_path),
        classes=("cat", "dog"),
        masks=str(tmp_path / "masks"),
        http=HttpSettings(hosts=("img.example.org",)),
    )
    rows = {row.image_id: row for row in open_source(settings, 0).list_rows().rows}
    good = rows["img.example.org/a"]
    assert (good.uri, good.tags, good.split) == ("https://img.example.org/a.jpg", ("cat",), "val")
    assert good.problem == "" and str(good.mask_uri).endswith("masks/img.example.org/a.png")
    assert rows["other.org/a"].reason == "http_refused"
    assert rows["img.example.org/b"].reason == "http_refused"
    assert "hush" not in repr(rows)


def test_a_folder_of_urls_alone_needs_no_image_files(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="holds no images"):
        FolderSource(str(tmp_path), ("train",)).list_rows()
    (tmp_path / "tags.csv").write_text("image,tags\nhttps://h.org/a.jpg,cat\n")
    (row,) = FolderSource(str(tmp_path), ("train",)).list_rows().rows
    assert row.reason == "http_refused" and is_url(row.uri)


def test_requests_are_plain_ascii() -> None:
    address = parse_url("http://h.org/ä b\r\nX: y/%41?q=ö&a=1#frag")
    assert address.target == "/%C3%A4%20bX:%20y/%41?q=%C3%B6&a=1"
    require_allowed(address, ("h.org",))
