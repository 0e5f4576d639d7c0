"""The licence of each installed package as its metadata say, and whether AGPL-3.0-only may be combined with it."""

import re
from importlib.metadata import Distribution
from typing import Final

# Identifiers of the SPDX list. GPL-2.0-only is not among them: it cannot be combined with version 3.
COMPATIBLE: Final = frozenset({
    "0BSD", "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause",
    "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Python-2.0", "Zlib",
})  # fmt: skip
# Metadata of before SPDX identifiers, as they are spelled.
_SPELLINGS: Final = {
    "mit license": "MIT", "bsd": "BSD-3-Clause", "bsd license": "BSD-3-Clause", "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause", "3-clause bsd license": "BSD-3-Clause", "isc license (iscl)": "ISC",
    "apache 2.0": "Apache-2.0", "apache software license": "Apache-2.0",
    "agpl-3.0": "AGPL-3.0-only", "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0", "nvidia proprietary software": "LicenseRef-NVIDIA-Proprietary",
}  # fmt: skip
# cuda-toolkit only lists the libraries of CUDA; its metadata name no licence.
_BY_HAND: Final = {"cuda-toolkit": "LicenseRef-NVIDIA-Proprietary"}
_KNOWN: Final = {name.casefold(): name for name in COMPATIBLE}
# The CUDA libraries of the Linux wheels of torch: nothing here is linked with them or ships them, and a CPU build of
# torch does without.
TOLERATED: Final = frozenset({"LicenseRef-NVIDIA-Proprietary"})


def license_of(package: Distribution) -> str:
    """An SPDX expression where the metadata give one or a known spelling, else what they say."""
    data = package.metadata
    name = (data["Name"] or "").casefold()
    if "License-Expression" in data:
        return data["License-Expression"]
    if name in _BY_HAND:
        return _BY_HAND[name]
    classified = [c.split(" :: ")[-1] for c in data.get_all("Classifier") or [] if c.startswith("License ::")]
    free_text = data["License"].strip().splitlines() if "License" in data else []
    for text in [*free_text[:1], *classified]:
        if re.fullmatch(r"[A-Za-z0-9.() -]+", text) and (spdx := _spdx(text)):
            return spdx
    return " ".join(classified) or (free_text[0] if free_text else "none given")


def _spdx(text: str) -> str:
    """The expression that a text is, or that it spells; empty when it is neither."""
    plain = text.casefold()
    if all(part.casefold() in _KNOWN for part in _parts(text)):
        return text
    return _SPELLINGS.get(plain, "")


def _parts(expression: str) -> list[str]:
    return [part.strip("() ") for part in re.split(r"\bAND\b", expression)]


def fits(expression: str) -> bool:
    """Whether a licence may be combined with AGPL-3.0-only: all parts of an AND, one of an OR."""
    return any(
        all(part in COMPATIBLE or part in TOLERATED for part in _parts(choice))
        for choice in re.split(r"\bOR\b", expression)
    )
