"""Authentication with the broker: our token, and the certificate authorities we trust."""

from __future__ import annotations

import certifi

from pipeline.core.settings import PulsarSettings


def token_of(settings: PulsarSettings) -> str | None:
    """Read the current token; None if none is set.

    `PULSAR_TOKEN_FILE` may be replaced while programs run; the private broker's is created when it first starts.
    """
    if settings.token is not None and not settings.private:
        return settings.token.get_secret_value()
    if (file := settings.token_path) is None:
        return None
    try:
        return file.read_text().strip()
    except OSError:  # being replaced, or missing: the broker refuses an empty one, which is reported
        return ""


def shown(what: str, settings: PulsarSettings) -> tuple[object, ...]:
    """Return the settings used to access `what` at the broker, as a key for `pipeline.core.admission`."""
    return what, settings.service_url, settings.admin, settings.token, settings.token_file, settings.tls_ca_file


def authorities_of(settings: PulsarSettings) -> str:
    """Return the CA file: the private broker's certificate, `PULSAR_TLS_CA_FILE`, otherwise the public authorities.

    Never None: the Pulsar client does not use the system's list, so without a file it trusts no certificate.
    """
    return str(settings.authorities or certifi.where())
