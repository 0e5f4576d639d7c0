"""Calls to an object store: a fault that passes is tried again, any other becomes one message with the address."""

import errno
import random
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from shared.runtime.errors import InputError, disk_full
from shared.runtime.progress import log

T = TypeVar("T")

MOST_TRIES: Final = 5
_FIRST_SECONDS: Final = 1.0
_MOST_SECONDS: Final = 20.0
# Of the server: too slow, too many requests. All from 500 on are faults of the server, too.
_PASSING_STATUS: Final = (408, 425, 429)
_PASSING_NUMBERS: Final = frozenset(
    getattr(errno, name)
    for name in ("EAGAIN", "EBUSY", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH",
                 "EPIPE", "EREMOTEIO", "ETIMEDOUT")
    if hasattr(errno, name)
)  # fmt: skip
# Classes of botocore, aiohttp, urllib3 and socket for connections that broke or never came about.
_PASSING_NAMES: Final = frozenset(
    ("ClientConnectionError", "ClientPayloadError", "ConnectTimeoutError", "ConnectionClosedError",
     "EndpointConnectionError", "HTTPClientError", "IncompleteRead", "IncompleteReadError", "ProtocolError",
     "ReadTimeoutError", "ResponseStreamingError", "ServerTimeoutError", "gaierror")
)  # fmt: skip
_NO_CREDENTIALS: Final = frozenset(
    ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound",
     "DefaultCredentialsError", "TokenRetrievalError", "UnauthorizedSSOTokenError")
)  # fmt: skip


class StorageError(InputError):
    """An object store refuses something, or does not answer after all tries."""


class MissingError(StorageError):
    """There is no such object, folder or bucket."""


def tried(call: Callable[[], T], named: str) -> T:
    """What the call returns, which is made again after faults that pass.

    Args:
      named: the address that messages name.

    Raises:
      StorageError: when the store refuses, or the faults do not pass.
      OSError: when this machine's disk is full.
    """
    for number in range(1, MOST_TRIES + 1):
        try:
            return call()
        except Exception as error:
            if not _is_of_storage(error) or (isinstance(error, OSError) and disk_full(error)):
                raise
            if not passes(error):
                raise _refusal(error, named) from error
            if number == MOST_TRIES:
                raise StorageError(
                    f"{named}: the object store cannot be reached or does not answer, after {MOST_TRIES} tries "
                    f"({_kind(error)}); check the network and the endpoint (AWS_ENDPOINT_URL), and go on with --resume"
                ) from error
            seconds = min(_FIRST_SECONDS * 2 ** (number - 1), _MOST_SECONDS) * random.uniform(0.5, 1.0)
            log(f"{named}: {_kind(error)}; tried again in {seconds:.1f} s")
            _pause(seconds)
    raise AssertionError("the last try returns or raises")


def _pause(seconds: float) -> None:
    time.sleep(seconds)


def _is_of_storage(error: Exception) -> bool:
    """Whether an error is of the system or of a library; errors of this program are not hidden."""
    return isinstance(error, OSError) or not (isinstance(error, InputError) or type(error).__module__ == "builtins")


def passes(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    status = _status(error)
    if status is not None and (status >= 500 or status in _PASSING_STATUS):
        return True
    if isinstance(error, TimeoutError):  # S3 sends its RequestTimeout with status 400
        return True
    if status is not None:
        return False
    if isinstance(error, FileNotFoundError | PermissionError):
        return False
    names = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    numbers = {each.errno for each in _chain(error) if isinstance(each, OSError)}
    return isinstance(error, ConnectionError) or bool(names & _PASSING_NAMES or numbers & _PASSING_NUMBERS)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those that it was made of; fsspec turns those of a store into those of the system."""
    seen = 0
    current: BaseException | None = error
    while current is not None and seen < 10:
        yield current
        current, seen = current.__cause__, seen + 1


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an error, where there was an answer."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        about = response.get("ResponseMetadata") if isinstance(response, dict) else None
        found = about.get("HTTPStatusCode") if isinstance(about, dict) else getattr(each, "status", None)
        found = found if found is not None else getattr(each, "code", None)
        if isinstance(found, int) and 100 <= found < 600:
            return found
    return None


def _kind(error: BaseException) -> str:
    """An error in a word: what a library says may quote requests, with what signs them."""
    status = _status(error)
    kind = type(error).__name__
    return kind if status is None else f"{kind}, status {status}"


def _refusal(error: Exception, named: str) -> StorageError:
    status = _status(error)
    if {type(each).__name__ for each in _chain(error)} & _NO_CREDENTIALS:
        return StorageError(
            f"{named}: no credentials are found; set them as the store's own tools take them, for S3 with "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    if isinstance(error, FileNotFoundError) or status == 404:
        return MissingError(f"{named}: no such bucket, folder or object; check the address and the endpoint")
    if isinstance(error, PermissionError) or status in (401, 403):
        return StorageError(
            f"{named}: access is denied; check the credentials that the environment or the configuration gives, and "
            "what they may do there"
        )
    return StorageError(f"{named}: the object store refuses ({_kind(error)}); check the address and its bucket")
