"""`lumbar pack`: trained runs and the program in one archive, for prediction where there is no network."""

from pipelines.pack.pack import Manifest, PackRequest, pack

__all__ = ["Manifest", "PackRequest", "pack"]
