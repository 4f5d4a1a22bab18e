"""Object storage (s3://, gs://, az://) through obstore, the extra `s3`: what ragvec asks of a store, and nothing else of it.

There is no rename, no lock and no append there: an object appears whole, and `Bucket.create` makes one only if there is none.
"""

from ragvec.objects.bucket import Bucket, Found
from ragvec.objects.reading import ObjectFile
from ragvec.objects.urls import ObjectPath, as_path, is_url

__all__ = ["Bucket", "Found", "ObjectFile", "ObjectPath", "as_path", "is_url"]
