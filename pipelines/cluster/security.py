"""Access to a cluster: for programs that have its certificate, or else for this machine alone.

Whoever reaches a Dask scheduler can run programs on every worker. So what listens on another address than
the loopback one asks for a certificate, which one command makes for all machines of a cluster.
"""

import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from distributed import Security

from components.core.errors import InputError
from components.core.files import writing
from components.core.machine import LOOPBACK
from pipelines.workspace import STATE_DIR, state_dir

FOLDER_VARIABLE = "VIRTEX_CERTIFICATES"
PLAIN_VARIABLE = "VIRTEX_CLUSTER_PLAIN"  # set to 1: connections without certificates, on any address
AUTHORITY, CERTIFICATE, KEY = "authority.pem", "certificate.pem", "key.pem"
HTTP_ADDRESS = f"{LOOPBACK}:0"  # of the pages that each Dask program has, without encryption
_DAYS = 730
_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def certificates_folder(root: Path) -> Path:
    """Return ``VIRTEX_CERTIFICATES``, else the folder in the workspace's notes."""
    return Path(os.environ.get(FOLDER_VARIABLE) or root / STATE_DIR / "certificates")


def is_loopback(address: str) -> bool:
    """Return whether only this machine reaches ``address``, such as ``tcp://127.0.0.1:8786``."""
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # another name
        return False


def security_for(address: str, root: Path) -> Security:
    """Return what to connect with to ``address``: our certificate for ``tls://``, or nothing.

    Raises:
        InputError: an address of other machines without ``tls://``, unless ``VIRTEX_CLUSTER_PLAIN`` is 1;
            certificates are missing.
    """
    if not address.startswith("tls://"):
        if is_loopback(address) or os.environ.get(PLAIN_VARIABLE) == "1":
            return Security(require_encryption=False)
        raise InputError(
            f"{address}: without certificates whoever reaches that scheduler can run programs on every "
            "worker; use a tls:// address (docs/teams.md; `virtex cluster certificates` makes what it needs) "
            f"or set {PLAIN_VARIABLE}=1 if nobody else can reach it"
        )
    folder = certificates_folder(root)
    missing = [name for name in (AUTHORITY, CERTIFICATE, KEY) if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder}: no {', '.join(missing)}; make them once with `virtex cluster certificates HOST ...`, "
            f"and copy the folder to each machine of the cluster, or name another one in {FOLDER_VARIABLE}"
        )
    files = {"tls_ca_file": str(folder / AUTHORITY)}
    for role in ("client", "scheduler", "worker"):
        files |= {f"tls_{role}_cert": str(folder / CERTIFICATE), f"tls_{role}_key": str(folder / KEY)}
    return Security(require_encryption=True, **files)


def scheduler_command(root: Path, host: str, port: int) -> list[str]:
    """Return the command line of Dask's scheduler: with certificates, but on the loopback address.

    Raises:
        InputError: as ``security_for``.
    """
    words = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", host, "--port", str(port)]
    words += ["--no-dashboard", "--dashboard-address", HTTP_ADDRESS]
    if is_loopback(f"tcp://{host}") or os.environ.get(PLAIN_VARIABLE) == "1":
        return words
    security_for(f"tls://{host}", root)
    folder = certificates_folder(root)
    files = {"--tls-ca-file": AUTHORITY, "--tls-cert": CERTIFICATE, "--tls-key": KEY}
    words += (word for option, name in files.items() for word in (option, str(folder / name)))
    return [*words, "--protocol", "tls"]


def make_certificates(root: Path, hosts: Sequence[str]) -> Path:
    """Make an authority and one certificate for all programs of a cluster; returns their folder.

    The authority's key is not kept: nobody can issue another certificate that the cluster accepts.

    Args:
        root: the repository.
        hosts: names or IP addresses of the scheduler's machine, for people; Dask does not compare them.

    Raises:
        InputError: there is a folder of certificates, which others may be using.
    """
    folder = certificates_folder(root)
    if os.path.lexists(folder):
        raise InputError(
            f"{folder} is there already; remove it to make others, which every machine then needs"
        )
    state_dir(root)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name, name = _name("virtex cluster authority"), _name(hosts[0])
    authority = (
        _builder(authority_name, authority_name, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    certificate = (
        _builder(name, authority_name, key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(usage, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )
    with writing(folder) as temporary:
        temporary.mkdir(mode=0o700)
        _write(temporary / AUTHORITY, authority.public_bytes(Encoding.PEM), 0o644)
        _write(temporary / CERTIFICATE, certificate.public_bytes(Encoding.PEM), 0o644)
        written = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write(temporary / KEY, written, 0o600)
    return folder


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of machines differ
        .not_valid_after(now + timedelta(days=_DAYS))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise InputError(f"{host!r}: expected the name or the IP address of a machine") from None


def _write(path: Path, content: bytes, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
