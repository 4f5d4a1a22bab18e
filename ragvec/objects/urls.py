"""URLs of objects as paths: s3://bucket/folder/name, never with credentials in them."""

import re
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ragvec.errors import WrongInput

if TYPE_CHECKING:
    from ragvec.objects.bucket import Found

SCHEMES = ("s3", "gs", "az")
_URL = re.compile(rf"(?:{'|'.join(SCHEMES)})://", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_COLLAPSED = re.compile(rf"({'|'.join(SCHEMES)}):/(?!/)")  # what pathlib makes of such a URL


class ObjectPath(PosixPath):
    """An object's place, or a folder of them, as a path that has a name, a suffix and parents; as text it is the URL.

    Nothing here lies under it: what asks the file system about it finds nothing.

    found   what the listing that it came from says of it
    """

    found: "Found | None" = None

    def __str__(self) -> str:
        return _COLLAPSED.sub(r"\1://", super().__str__(), count=1)

    @property
    def root_url(self) -> str:
        """The bucket: s3://bucket."""
        return f"{self.parts[0]}//{self.parts[1]}"

    @property
    def key(self) -> str:
        """The name in the bucket; empty for the bucket itself."""
        return self.found.name if self.found else "/".join(self.parts[2:])

    @property
    def parent(self) -> "ObjectPath":
        """What it lies in."""
        return ObjectPath(super().parent)

    def below(self, name: str, found: "Found") -> "ObjectPath":
        """The place of an object that a listing has found below this one."""
        path = ObjectPath(self / name)
        path.found = found
        return path


def is_url(source: str | Path) -> bool:
    """Whether this is the URL of an object, or of a folder of them."""
    return isinstance(source, ObjectPath) or (isinstance(source, str) and _URL.match(source) is not None)


def as_path(source: str | Path) -> Path:
    """A path here, or one of object storage for a URL.

    Raises WrongInput for a URL without a bucket, for one with credentials, which would stand in logs and manifests, and for
    one whose key a path would change: a//b, a/../b.
    """
    if isinstance(source, ObjectPath):
        return source
    if not is_url(source):
        return Path(source)
    try:
        url = urlsplit(str(source))
    except ValueError:  # which may quote a password
        raise WrongInput("this is no URL of object storage: write it like s3://bucket/path") from None
    if "@" in url.netloc or url.query or url.fragment:
        raise WrongInput(
            f"a {url.scheme}:// URL must hold bucket and path alone, no user, password, signature or fragment: "
            "give credentials by the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY …)"
        )
    if not url.netloc:
        raise WrongInput(f"{source} names no bucket: write {url.scheme}://bucket/path")
    key = url.path.strip("/")
    if _CONTROL.search(str(source)) or (key and not {"", ".", ".."}.isdisjoint(key.split("/"))):
        raise WrongInput(
            f"{str(source)!r:.200} can't be read: between two / stands a name, which is not . or .., without control characters"
        )
    return ObjectPath(f"{url.scheme}://{url.netloc}/{key}")
