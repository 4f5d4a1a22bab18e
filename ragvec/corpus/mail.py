"""Mails (.eml): subject, text, who wrote when to whom, the names of what is attached; never what is attached itself."""

from collections.abc import Callable
from datetime import timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

_SEALED = ("application/pkcs7-mime", "application/x-pkcs7-mime", "multipart/encrypted")  # S/MIME, OpenPGP


def read_mail(data: bytes, from_html: Callable[[bytes], str]) -> dict[str, Any]:
    """A mail's title (its subject), its text as Markdown, and fields: from, to, date in UTC, attachments.

    from_html  makes Markdown of a page, for mails that have no plain text
    Raises ValueError for what is no mail or hides its text, and LookupError for an unknown encoding.
    """
    mail = message_from_bytes(data, policy=policy.default)
    assert isinstance(mail, EmailMessage)
    if not mail.keys():
        raise ValueError("it has no head of a mail")
    if mail.get_content_type() in _SEALED:
        raise ValueError("its text is encrypted or sealed by a signature: save it from a mail program that can open it")
    body = mail.get_body(("plain", "html"))
    text = "" if body is None else str(body.get_content(errors="replace"))
    if body is not None and body.get_content_subtype() == "html":
        text = from_html(f"<meta charset=utf-8>{text}".encode("utf-8", "replace"))
    date = mail["date"].datetime if mail["date"] is not None else None
    fields = {
        "from": _text(mail["from"]),
        "to": _text(mail["to"]),
        "date": date and (date if date.tzinfo else date.replace(tzinfo=timezone.utc)).astimezone(timezone.utc).isoformat(),
        "attachments": [_text(part.get_filename()) for part in mail.iter_attachments() if part.get_filename()],
    }
    kept = {name: value for name, value in fields.items() if value}
    return {"title": _text(mail["subject"]), "markdown": text.encode("utf-8", "replace").decode(), "fields": kept}


def _text(header: Any) -> str:
    return " ".join(str(header or "").encode("utf-8", "replace").decode().split())
