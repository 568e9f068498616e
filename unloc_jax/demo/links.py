"""Downloads a video from a link that a stranger typed: by http(s), from the public internet, within limits.

Without care a server fetches for a stranger what only it can reach (server-side request forgery): files of this
machine, services of its network, the cloud's metadata address. So every hop is checked: its scheme, and all
addresses of its host; and the connection goes to the address that was checked, whatever the name means a moment later.
"""

import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from unloc_jax.demo.limits import Limits, megabytes
from unloc_jax.errors import UserError

_MOST_HOPS = 5
_SILENCE_S = 15.0  # without a byte
_DEADLINE_S = 180.0  # of one hop, download included
_CHUNK = 1 << 16
_REDIRECTS = (301, 302, 303, 307, 308)
# IPv6 addresses that lead to an IPv4 address: NAT64 (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def download(
    link: str,
    out: Path,
    limits: Limits,
    *,
    allow_private: bool = False,
    watch: Callable[[int, int | None], None] = lambda done, total: None,
) -> str:
    """Downloads a file; returns the name that its address gives it.

    Args:
      link: an address that begins with http:// or https://.
      out: the file to write; a part of it may be there after an error.
      limits: on its size.
      allow_private: also from addresses outside the public internet, such as this machine's own.
      watch: called with the bytes that have arrived and those of the whole file (None: not known); what it raises ends
        the download.

    Raises:
      UserError: the link leads to nothing that may be downloaded, in one line.
    """
    for _ in range(_MOST_HOPS):
        address = _checked(link)
        with _get(address, allow_private) as answer:
            if answer.status in _REDIRECTS and (location := answer.getheader("Location")):
                link = urljoin(link, location)
                continue
            _check_answer(answer, limits)
            _save(answer, out, limits, watch)
            return _name_of(address)
    raise UserError("the link is redirected again and again: give the address of the file itself.")


def _checked(link: str) -> SplitResult:
    try:
        address = urlsplit(link.strip())
        if address.scheme in ("http", "https") and address.hostname:
            _ = address.port  # raises ValueError
            return address
    except ValueError:
        pass
    raise UserError("the link must be the address of a video file that begins with https:// or http://.")


@contextlib.contextmanager
def _get(address: SplitResult, allow_private: bool) -> Iterator[http.client.HTTPResponse]:
    """Sends the request and yields the answer; everything that fails in the network becomes a UserError."""
    host, port = str(address.hostname), address.port or (443 if address.scheme == "https" else 80)
    late = threading.Event()
    sockets: list[socket.socket] = []

    def stop() -> None:
        late.set()
        for opened in sockets:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_DEADLINE_S, stop)
    timer.daemon = True
    try:
        timer.start()
        connected = socket.create_connection((_address_of(host, port, allow_private), port), _SILENCE_S)
        sockets.append(connected)
        if address.scheme == "https":
            connected = ssl.create_default_context().wrap_socket(connected, server_hostname=host)
            sockets.append(connected)
        connection = http.client.HTTPConnection(host, port)
        connection.sock = connected
        connection.putrequest("GET", _target_of(address), skip_accept_encoding=True, skip_host=True)
        default = address.port in (None, {"http": 80, "https": 443}[address.scheme])
        name = f"[{host}]" if ":" in host else host.encode("idna").decode()
        connection.putheader("Host", name if default else f"{name}:{port}")
        connection.putheader("User-Agent", "unloc-demo")
        connection.putheader("Connection", "close")
        connection.endheaders()
        yield connection.getresponse()
        if late.is_set():
            raise TimeoutError
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        if late.is_set() or isinstance(error, TimeoutError):
            raise UserError(f"{host} does not send the file fast enough. Upload it instead.") from error
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{host} cannot be reached: {reason}.") from error
    finally:
        timer.cancel()
        for opened in reversed(sockets):
            opened.close()


def _address_of(host: str, port: int, allow_private: bool) -> str:
    """Returns an IP address of a host, all of whose addresses may be contacted."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UserError(f"{host} is not known: check the link.") from error
    addresses = [str(place[0]) for *_, place in found]
    if not allow_private and not all(map(is_public, addresses)):
        raise UserError(
            f"{host} is not on the public internet, so its files cannot be fetched. Upload the video."
        )
    return addresses[0]


def is_public(text: str) -> bool:
    """Returns whether an IP address belongs to a host on the public internet."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(inner):
            return all(is_public(str(each)) for each in inner if each)
    return address.is_global and not address.is_multicast


def _target_of(address: SplitResult) -> str:
    target = (address.path or "/") + (f"?{address.query}" if address.query else "")
    return quote(target, safe="%/:?#[]@!$&'()*+,;=~")


def _check_answer(answer: http.client.HTTPResponse, limits: Limits) -> None:
    if answer.status != 200:
        raise UserError(
            f"the link's server answers {answer.status} {answer.reason}: there is no file to download."
        )
    kind = answer.getheader("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("text/html", "application/xhtml+xml"):
        raise UserError(
            "the link leads to a web page, not to a video file. Give the file's own address, or upload it."
        )
    if answer.length is not None:
        limits.check_size(answer.length, "the file behind the link")


def _save(
    answer: http.client.HTTPResponse, out: Path, limits: Limits, watch: Callable[[int, int | None], None]
) -> None:
    total, done = answer.length, 0
    with out.open("wb") as file:
        # read1: what has arrived, so that a slow server cannot hold up the check of the deadline.
        while chunk := answer.read1(_CHUNK):
            done += len(chunk)
            if done > limits.max_bytes:
                raise UserError(f"the file behind the link has more than {megabytes(limits.max_bytes)}.")
            file.write(chunk)
            watch(done, total)
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {megabytes(done)} of {megabytes(total)}")


def _name_of(address: SplitResult) -> str:
    """Returns the last part of the address as a harmless file name."""
    name = re.sub(r"[^\w .()+-]", "_", unquote(address.path.rpartition("/")[2])).strip(" .")
    return name[-100:] or "video"
