"""Which hosts and addresses files may be fetched from."""

from __future__ import annotations

import pytest

from pipelined_api.url_hosts import InvalidUrl, InvalidUrlHost, UrlHosts, split_url

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.3.4",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::1",
    "::",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "2002:0a00:0001::1",
    "64:ff9b::a00:1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_refused_unless_it_is_named(address: str) -> None:
    assert not UrlHosts(["*"]).allows_address(address, 80)
    assert not UrlHosts(["example.org", "*"]).allows_address(address, 443)
    bare = address.partition("%")[0]
    entry = f"[{bare}]:8080" if ":" in bare else f"{bare}:8080"
    assert UrlHosts([entry]).allows_address(address, 8080)
    assert not UrlHosts([entry]).allows_address(address, 80)


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "::ffff:8.8.8.8"])
def test_public_addresses_need_no_naming(address: str) -> None:
    assert UrlHosts([]).allows_address(address, 80)


def test_hosts_have_to_be_listed() -> None:
    assert not UrlHosts([]).allows("example.org", 443)
    assert UrlHosts(["*"]).allows("example.org", 8443)
    listed = UrlHosts(["Example.org", "other.org:8080", "::1", "[::2]:81"])
    assert listed.allows("EXAMPLE.ORG.", 443)
    assert listed.allows("example.org", 80)
    assert not listed.allows("example.org", 8080)
    assert not listed.allows("sub.example.org", 443)
    assert listed.allows("other.org", 8080)
    assert not listed.allows("other.org", 80)
    assert listed.allows("0:0::1", 80)
    assert listed.allows("::2", 81)


def test_localhost_stands_for_loopback() -> None:
    local = UrlHosts(["localhost:8000"])
    assert local.allows_address("127.0.0.1", 8000)
    assert local.allows_address("::1", 8000)
    assert not local.allows_address("10.0.0.1", 8000)
    assert not local.allows_address("127.0.0.1", 8001)


@pytest.mark.parametrize(
    "entry",
    ["", "http://a.org", "a.org/path", "a.org:", "a.org:0", "a.org:65536", "a:b", "*.a.org"]
    + ["a b", "[::1", "[::1]8", "user@a.org", "-a.org"],
)
def test_entries_that_are_no_hosts(entry: str) -> None:
    with pytest.raises(InvalidUrlHost):
        UrlHosts([entry])


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://a.org/x", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("a.org/x", "neither http nor https"),
        ("http:///x", "no host"),
        ("http://u:p@a.org/x", "user or a password"),
        ("http://a.org:99999/x", "no URL"),
        ("http://a.org/a b", "%XX"),
        ("http://a.org/\r\nHost: b", "%XX"),
        ("http://a.org/ä", "%XX"),
        ("http://a.org/" + "x" * 5000, "4096"),
    ],
)
def test_urls_that_are_refused(url: str, text: str) -> None:
    with pytest.raises(InvalidUrl, match=text):
        split_url(url)


def test_default_ports() -> None:
    assert split_url("https://A.org/x")[1:] == ("a.org", 443)
    assert split_url("http://[::1]:8/x")[1:] == ("::1", 8)
