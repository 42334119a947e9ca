"""What a client of the broker shows and trusts: its token, and whose certificates are accepted."""

from __future__ import annotations

import certifi

from pipeline.core.settings import PulsarSettings


def token_of(settings: PulsarSettings) -> str | None:
    """The token as it is now; None where none is set.

    `PULSAR_TOKEN_FILE` may be renewed while programs run; that of the private broker is made when it first starts.
    """
    if settings.token is not None and not settings.private:
        return settings.token.get_secret_value()
    if (file := settings.token_path) is None:
        return None
    try:
        return file.read_text().strip()
    except OSError:  # is just being replaced, or gone: the broker refuses an empty one and the refusal is said
        return ""


def shown(what: str, settings: PulsarSettings) -> tuple[object, ...]:
    """The settings by which we ask the broker for `what`, for `pipeline.core.admission`."""
    return what, settings.service_url, settings.admin, settings.token, settings.token_file, settings.tls_ca_file


def authorities_of(settings: PulsarSettings) -> str:
    """File of the authorities whose certificates are accepted: `PULSAR_TLS_CA_FILE`, otherwise the public ones.

    Never nothing: the Pulsar client does not look at the system's list, so without a file it trusts nobody.
    """
    return str(settings.tls_ca_file or certifi.where())
