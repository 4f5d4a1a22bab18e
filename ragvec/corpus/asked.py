"""Fields that were asked for by name, and whether any row has them: a misspelt name must not pass in silence."""

import logging
from typing import Any

from ragvec.corpus.fields import FieldNames
from ragvec.corpus.nested import named
from ragvec.corpus.remarks import Remarks

_log = logging.getLogger("ragvec")


class AskedFields:
    """The names that no row of a corpus has had so far, each with the argument that it was given in."""

    def __init__(self, names: FieldNames) -> None:
        """names: those that were asked for; the vector's is not looked for, since every row must have it."""
        given = {
            "text_fields": names.text,
            "id_field": (names.id,) if names.id else (),
            "metadata_fields": names.metadata or (),
            "drop_fields": names.drop,
        }
        self._missing = [(argument, name) for argument, fields in given.items() for name in fields]

    def look(self, row: dict[str, Any]) -> None:
        """Look at a row's fields, and at those of an object named metadata, which is opened."""
        if self._missing:
            inner = row.get("metadata")
            fields = {**inner, **row} if isinstance(inner, dict) else row
            self._missing = [(argument, name) for argument, name in self._missing if not named(fields, name)]

    def tell(self, source: str, remarks: Remarks) -> None:
        """Warn of the names that no row of a source had, once all have come by; columns that were left out are there."""
        for argument, name in self._missing:
            if name.lower() not in remarks.names:
                _log.warning("%s: no row has the field %r of `%s`: check its name", source, name, argument)
