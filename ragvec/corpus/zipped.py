"""Files that are ZIP packages, measured before anything parses them: a few kilobytes can hold gigabytes, or XML without end."""

import io
import zipfile
from xml.parsers import expat

from ragvec.errors import WrongInput

_MOST_PARTS = 10_000  # of a document; Word makes a dozen, and one for each picture
_DEEPEST = 256  # elements within one another; Word nests some dozens, parsers recurse and end the process at some thousand
_PIECE = 1 << 16
_ENCRYPTED = 1  # a bit of a part's flags
ZIPPED = (".docx", ".pptx", ".xlsx", ".epub")
_WITH_TYPES = (".epub",)  # whose parts are pages of the web, which name their type
_LOCKED = frozenset(("META-INF/rights.xml", "META-INF/sinf.xml", "META-INF/license.lcpl"))  # of Adobe, Apple, Readium
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # begins Office files of before 2007, and later ones within a password's lock
_LOCKED_PACKAGE = "EncryptedPackage".encode("utf-16-le")  # what the latter hold
PASSWORD = "it is protected by a password: save it without one"
_KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # all that the format allows


class TooLarge(WrongInput):
    """What is over the limit that whoever reads may be able to raise."""


def inflated_size(data: bytes, most: int, suffix: str) -> int:
    """How many bytes a package holds once it is decompressed, its XML being of a kind that can be parsed.

    most   bytes that it may hold; suffix: what it is, one of ZIPPED
    Raises TooLarge beyond them, and WrongInput for what is no package or a locked one, too many parts, XML too deep, or with
    a document type, which can expand; of an EPUB, for one that declares entities.
    """
    _check_package(data, suffix)
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        parts = package.infolist()
        if len(parts) > _MOST_PARTS:
            raise WrongInput(f"it has {len(parts):,} parts, of which a document has {_MOST_PARTS:,} at most")
        size = sum(part.file_size for part in parts)  # zipfile reads no part further than this
        if size > most:
            raise TooLarge(f"it inflates to more than {most >> 20:,} MB")
        if _LOCKED.intersection(part.filename for part in parts):
            raise WrongInput("it is locked by who sold or lent it (DRM): only their reader opens it")
        for part in parts:
            if part.flag_bits & _ENCRYPTED:
                raise WrongInput(PASSWORD)
            if part.compress_type not in _KINDS:
                raise WrongInput(f"{part.filename!r} in it is compressed in another way than documents are")
            _check_xml(package, part, types=suffix in _WITH_TYPES)
    return size


def _check_package(data: bytes, suffix: str) -> None:
    if data.startswith(_OLE):
        old = f"it is of an Office before 2007 (.doc, .xls, .ppt), whatever its name: save it as {suffix}"
        raise WrongInput(PASSWORD if _LOCKED_PACKAGE in data else old)
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise WrongInput(f"it is no {suffix} file, or damaged")


def _check_xml(package: zipfile.ZipFile, part: zipfile.ZipInfo, *, types: bool) -> None:
    """Follow a part's elements, whatever its name promises, until it is no XML any more."""
    parser = expat.ParserCreate()
    depth = 0

    def start(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise WrongInput(f"{part.filename!r} in it nests more than {_DEEPEST} elements")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def document_type(*_: object) -> None:
        raise WrongInput(f"{part.filename!r} in it declares a document type, which documents never do")

    def entity(*_: object) -> None:
        raise WrongInput(f"{part.filename!r} in it declares entities, which can expand without end")

    parser.StartElementHandler, parser.EndElementHandler, parser.EntityDeclHandler = start, end, entity
    if not types:
        parser.StartDoctypeDeclHandler = document_type
    with package.open(part) as stream:
        while piece := stream.read(_PIECE):
            try:
                parser.Parse(piece, False)
            except expat.ExpatError:
                return  # a picture; or broken XML, which the converter will report
