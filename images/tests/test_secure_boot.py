"""Signing for Secure Boot: by a key that the builder brings, never from a checkout, and nothing but the signature is added."""

import shutil
import struct
import subprocess

import pytest
from bootstrap import Missing, Steps
from qanun_images import secure_boot, tools
from qanun_images.places import Stale
from qanun_images.slot import LOADER, Slot


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    place = tmp_path_factory.mktemp("secure-boot")
    key, certificate = place / "key.pem", place / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=Test of a clinic",
         "-keyout", key, "-out", certificate], check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


def test_half_a_pair_a_foreign_certificate_and_a_key_in_a_checkout_are_refused(pair, tmp_path):
    key, certificate = pair
    assert secure_boot.given(None, None) is None
    with pytest.raises(Missing, match="wants both"):
        secure_boot.given(key, None)
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "rsa", "-out", other], check=True, capture_output=True)
    with pytest.raises(Missing, match="is not the certificate of"):
        secure_boot.given(other, certificate)
    with pytest.raises(Missing, match="cannot be read"):
        secure_boot.given(certificate, certificate)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shutil.copy(key, tmp_path / "key.pem")
    subprocess.run(["git", "add", "key.pem"], cwd=tmp_path, check=True)
    with pytest.raises(Missing, match="must never be"):
        secure_boot.given(tmp_path / "key.pem", certificate)


def signatures(content):
    """The certificate table of a PE file."""
    [header] = struct.unpack_from("<I", content, 0x3C)
    offset, size = struct.unpack_from("<II", content, header + 24 + 112 + 4 * 8)
    return content[offset : offset + size]


def test_boot_files_and_loader_carry_the_signature_and_are_otherwise_the_same(pair, tmp_path):
    reason = tools.can_enter()
    if reason:
        pytest.skip(reason)
    by = secure_boot.given(*pair)
    steps = Steps(1)
    try:
        with steps.step("Tools"):
            bench = tools.make(steps)
    except Stale as stale:
        pytest.skip(str(stale))
    loader = (bench / "usr/lib/systemd/boot/efi" / LOADER).read_bytes()
    made = Slot(tmp_path, "1.0", 0, "", "")
    files = (made.boot_file, made.installer_file, tmp_path / LOADER)
    for path in files:
        path.write_bytes(loader)
    secure_boot.sign(made, by)
    der = subprocess.run(["openssl", "x509", "-in", by.certificate, "-outform", "DER"], check=True, capture_output=True)
    assert not signatures(loader)
    for path in files:
        content = path.read_bytes()
        assert der.stdout in signatures(content)
        # The header's checksum and the place of the signature apart, nothing before it is another.
        assert sum(one != other for one, other in zip(loader, content, strict=False)) <= 12
        if shutil.which("sbverify"):
            subprocess.run(["sbverify", "--cert", by.certificate, path], check=True, capture_output=True)
