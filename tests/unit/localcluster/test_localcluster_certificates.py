import stat
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtensionOID, NameOID

from aiops_localcluster.certificates import Authority, Pair, signing_key


def _load(pair: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes())


def test_a_client_certificate_names_user_and_groups(tmp_path: Path) -> None:
    """Common name and organizations, as Kubernetes reads them, signed by the authority."""
    authority = Authority(tmp_path)
    certificate = _load(authority.client("admin", "admin", ("system:masters", "team")))
    issuer = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    certificate.verify_directly_issued_by(issuer)

    assert {
        "user": [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)],
        "groups": [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)],
    } == {"user": ["admin"], "groups": ["system:masters", "team"]}


def test_a_server_certificate_names_its_hosts(tmp_path: Path) -> None:
    """Names and addresses apart."""
    certificate = _load(Authority(tmp_path).server("api", "kube-apiserver", ("kubernetes", "10.96.0.1")))
    names = certificate.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    assert isinstance(names, x509.SubjectAlternativeName)

    assert (
        names.get_values_for_type(x509.DNSName),
        [str(address) for address in names.get_values_for_type(x509.IPAddress)],
    ) == (["kubernetes"], ["10.96.0.1"])


def test_keys_are_readable_by_their_owner_alone(tmp_path: Path) -> None:
    """Those of service accounts too."""
    keys = (Authority(tmp_path).client("a", "a").key, signing_key(tmp_path).key)

    assert [stat.S_IMODE(key.stat().st_mode) for key in keys] == [0o600, 0o600]
