"""Links that visitors give: what is fetched, and what is refused before connecting."""

import ipaddress
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.demo.conftest import LIMITS, redirects, sends
from unloc_jax.demo import links
from unloc_jax.demo.links import download, is_public
from unloc_jax.errors import UserError


def error_of(link, tmp_path, **options):
    with pytest.raises(UserError) as caught:
        download(link, tmp_path / "out", LIMITS, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_downloaded_under_the_name_of_its_address(site, tmp_path):
    content = bytes(range(256)) * 700
    seen = []
    address = site(sends(content))
    name = download(
        f"{address}/films/a%20film%3Cb%3E.mp4?key=1",
        tmp_path / "out",
        LIMITS,
        allow_private=True,
        watch=lambda done, total: seen.append((done, total)),
    )
    assert (tmp_path / "out").read_bytes() == content
    assert name == "a film_b_.mp4"
    assert seen[-1] == (len(content), len(content)) and seen == sorted(seen)
    assert download(address, tmp_path / "out", LIMITS, allow_private=True) == "video"


def test_redirects_are_followed(site, tmp_path):
    last = site(sends(b"film"))
    first = site(redirects(f"{last}/film.mp4"))
    assert download(first, tmp_path / "out", LIMITS, allow_private=True) == "film.mp4"
    around = site(lambda handler: redirects(handler.path)(handler))
    assert "redirected again and again" in error_of(around, tmp_path, allow_private=True)


@pytest.mark.parametrize(
    "link",
    ["file:///etc/passwd", "ftp://example.org/a", "gopher://127.0.0.1/", "data:text/plain,a", "/etc/passwd", "a.mp4",
     "http://", "http://[::1", "http://a:b/", "concat:a|b", "http:/etc/passwd", ""],
)  # fmt: skip
def test_only_http(link, tmp_path):
    assert "begins with https:// or http://" in error_of(link, tmp_path, allow_private=True)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "10.1.2.3", "192.168.0.1", "169.254.169.254", "100.64.0.1",
     "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[fe80::1]", "[fd00::1]",
     "visitor@127.0.0.1"],
)  # fmt: skip
def test_private_addresses_in_every_spelling_are_refused(host, tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("it connected"))
    assert "not on the public internet" in error_of(f"http://{host}/a.mp4", tmp_path)


def test_a_redirect_to_a_private_address_is_refused(site, tmp_path, monkeypatch):
    """127.0.0.1 plays the public internet."""
    monkeypatch.setattr(links, "is_public", lambda address: address == "127.0.0.1")
    secret = site(sends(b"secret"))
    for to in (
        secret.replace("127.0.0.1", "127.0.0.2"),
        "http://localhost.localdomain:1/",
        "file:///etc/passwd",
    ):
        address = site(redirects(to))
        assert error_of(address, tmp_path)
        assert not (tmp_path / "out").exists()
    assert download(secret, tmp_path / "out", LIMITS) == "video", "as the test means it"


def test_the_address_that_was_checked_is_the_one_that_is_contacted(tmp_path, monkeypatch):
    """A name may mean another address when it is looked up again."""
    answers = iter([["93.184.216.34"], ["127.0.0.1"]])
    found = lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in next(answers)]
    contacted = []

    def connect(address, *_):
        contacted.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket, "create_connection", connect)
    assert "cannot be reached: Connection refused" in error_of("http://name.example/a.mp4", tmp_path)
    assert contacted == [("93.184.216.34", 80)]


def test_one_private_address_among_several_is_enough_to_refuse(tmp_path, monkeypatch):
    both = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("10.0.0.1", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    assert "not on the public internet" in error_of("http://name.example/a.mp4", tmp_path)


PRIVATE = ["10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
           "0.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4", "192.0.2.0/24", "198.18.0.0/15"]  # fmt: skip
PRIVATE_6 = ["::/127", "fc00::/7", "fe80::/10", "ff00::/8", "2001:db8::/32"]


def inside(network):
    first, last = int(network[0]), int(network[-1])
    return st.integers(first, last).map(type(network[0]))


@given(st.sampled_from(PRIVATE).flatmap(lambda text: inside(ipaddress.ip_network(text))))
def test_no_private_address_is_public_however_it_is_written(address):
    number = int(address)
    assert not is_public(str(address))
    assert not is_public(f"::ffff:{address}")
    assert not is_public(str(ipaddress.IPv6Address((0x2002 << 112) | (number << 80)))), "6to4"
    assert not is_public(str(ipaddress.IPv6Address((0x64FF9B << 96) | number))), "NAT64"


@given(st.sampled_from(PRIVATE_6).flatmap(lambda text: inside(ipaddress.ip_network(text))))
def test_no_private_address_of_version_6_is_public(address):
    assert not is_public(str(address)) and not is_public(f"{address}%eth0")


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses(address):
    assert is_public(address)


def test_what_is_no_file_is_refused(site, tmp_path):
    page = site(sends(b"<html>", kind="text/html; charset=utf-8"))
    assert "leads to a web page" in error_of(page, tmp_path, allow_private=True)
    gone = site(lambda handler: handler.send_error(404))
    assert "answers 404 Not Found" in error_of(gone, tmp_path, allow_private=True)
    cut = site(sends(b"half", length=1000))
    assert "the connection ended" in error_of(cut, tmp_path, allow_private=True)
    assert "is not known" in error_of("http://nowhere.invalid/a.mp4", tmp_path, allow_private=True)


def test_files_that_are_too_large_are_refused_before_or_while_they_are_sent(site, tmp_path):
    large = site(sends(bytes(10), length=LIMITS.max_bytes + 1))
    assert "this demo takes videos of up to" in error_of(large, tmp_path, allow_private=True)
    assert not (tmp_path / "out").exists()
    for length in (-1, 10):  # a length that is not told, and one that is wrong
        content = bytes(3 * LIMITS.max_bytes)
        endless = site(sends(content, length=length))
        if length == -1:
            assert "has more than 0.3 MB" in error_of(endless, tmp_path, allow_private=True)
        else:
            download(endless, tmp_path / "out", LIMITS, allow_private=True)
        assert (tmp_path / "out").stat().st_size <= LIMITS.max_bytes


def test_a_server_that_sends_a_byte_now_and_then_is_left(site, tmp_path, monkeypatch):
    monkeypatch.setattr(links, "_DEADLINE_S", 0.5)

    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(600):
            try:
                handler.wfile.write(b"x")
            except OSError:
                return
            time.sleep(0.05)

    assert "does not send the file fast enough" in error_of(site(drip), tmp_path, allow_private=True)
    silent = lambda handler: time.sleep(3)
    assert "does not send the file fast enough" in error_of(site(silent), tmp_path, allow_private=True)
