"""The grammar of `--device`."""

import pytest

from shared.runtime.errors import InputError
from shared.runtime.hardware.device import first_device, resolve_device


@pytest.mark.parametrize(
    ("given", "several", "expected"),
    [
        ("auto", False, "cuda:0"), ("cpu", False, "cpu"), ("cuda", False, "cuda:0"), ("cuda:1", False, "cuda:1"),
        ("0", False, "cuda:0"), ("1", True, "cuda:1"), ("0,1", True, "0,1"), ("1,0", True, "1,0"),
        ("0,1", False, None), ("0,0", True, None), ("2", True, None), ("cuda:2", False, None), ("-1", False, None),
        ("0,", True, None), ("", False, None), ("gpu", True, None), ("cuda:", False, None),
    ],
)  # fmt: skip
def test_devices(given: str, several: bool, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(InputError, match="--device"):
            resolve_device(given, gpus=2, several=several)
    else:
        assert resolve_device(given, gpus=2, several=several) == expected


def test_the_first_of_several_devices_measures() -> None:
    assert [first_device(d) for d in ("1,0", "cuda:1", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
