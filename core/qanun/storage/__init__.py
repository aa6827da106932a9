"""Keys and encrypted blobs of each clinic.

Keys: master key → tenant key (a row, wrapped) → data keys (wrapped, kept by whoever owns the data). Blobs: bytes sealed
under a data key of their own, in a local folder or any S3-compatible store. Erasing the wrapped key erases the data.
"""

from qanun.storage.blobs import Blob, BlobStore
from qanun.storage.keys import Keyring, TenantKey

__all__ = ["Blob", "BlobStore", "Keyring", "TenantKey"]
