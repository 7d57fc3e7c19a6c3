"""Sends a mail."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage

from celeriac import PermanentError, TemporaryError
from celeriac.settings import SmtpSettings

#: The port on which SMTP speaks TLS from the start (RFC 8314).
TLS_PORT = 465


def send(settings: SmtpSettings, to: str, subject: str, body: str) -> None:
    """Send a mail in plain text.

    Raises:
        PermanentError: the address is none, or the server refuses it for good.
        TemporaryError: the server does not answer, or asks to come back later.
    """
    if "@" not in to or any(character in to for character in "\r\n,"):
        msg = f"to: {to!r} is no mail address"
        raise PermanentError(msg)
    message = EmailMessage()
    message["From"] = settings.sender
    message["To"] = to
    message["Subject"] = " ".join(subject.splitlines())
    message.set_content(body)
    try:
        with _connect(settings) as server:
            if settings.username and settings.password:
                server.login(settings.username, settings.password.get_secret_value())
            server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        code = max(code for code, _ in error.recipients.values())
        kind = PermanentError if code >= 500 else TemporaryError
        msg = f"{settings.host} refuses {to}: {error.recipients}"
        raise kind(msg) from error
    except smtplib.SMTPResponseException as error:
        kind = PermanentError if error.smtp_code >= 500 else TemporaryError
        msg = f"{settings.host} answers {error.smtp_code} {error.smtp_error!r}"
        raise kind(msg) from error
    except (OSError, smtplib.SMTPException) as error:
        msg = f"{settings.host}:{settings.port} does not answer: {error}"
        raise TemporaryError(msg) from error


def _connect(settings: SmtpSettings) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if settings.port == TLS_PORT:
        return smtplib.SMTP_SSL(settings.host, settings.port, timeout=settings.timeout_seconds, context=context)
    server = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_seconds)
    if settings.starttls:
        server.starttls(context=context)
    return server
