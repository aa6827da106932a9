"""Keys, sealed values, signatures and tokens: what opens, and what must never open."""

import os
import pickle
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanun import crypto
from qanun.crypto.envelope import xaes_decrypt, xaes_encrypt

NOUR = crypto.bind("tenant", "nour")
OAK = crypto.bind("tenant", "oak")
contexts = st.lists(st.one_of(st.text(max_size=8), st.binary(max_size=8), st.integers()), max_size=4)


@pytest.mark.parametrize(
    ("secret", "plaintext", "associated", "expected"),
    [
        (b"\x01" * 32, b"XAES-256-GCM", b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (
            b"\x03" * 32,
            b"XAES-256-GCM",
            b"c2sp.org/XAES-256-GCM",
            "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d",
        ),
    ],
)
def test_xaes_agrees_with_the_vectors_of_its_specification(
    secret: bytes, plaintext: bytes, associated: bytes, expected: str
) -> None:
    sealed = xaes_encrypt(secret, b"ABCDEFGHIJKLMNOPQRSTUVWX", plaintext, associated)
    assert sealed.hex() == expected
    assert xaes_decrypt(secret, b"ABCDEFGHIJKLMNOPQRSTUVWX", sealed, associated) == plaintext


@given(plaintext=st.binary(max_size=200), context=st.binary(max_size=30))
def test_what_is_sealed_opens_again_and_never_looks_the_same_twice(plaintext: bytes, context: bytes) -> None:
    key = crypto.Key.generate()
    sealed = crypto.seal(plaintext, key, context=context)
    assert crypto.open_(sealed, key, context=context) == plaintext
    assert crypto.seal(plaintext, key, context=context) != sealed
    assert len(sealed) == len(plaintext) + 52
    assert crypto.sealed_under(sealed) == key.id


@given(plaintext=st.binary(max_size=60), data=st.data())
def test_a_sealed_value_with_any_bit_changed_does_not_open(plaintext: bytes, data: st.DataObject) -> None:
    key = crypto.Key.generate()
    sealed = bytearray(crypto.seal(plaintext, key, context=NOUR))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(crypto.CryptoError):
        crypto.open_(bytes(sealed), key, context=NOUR)


@given(plaintext=st.binary(max_size=60), data=st.data())
def test_a_shortened_or_lengthened_value_does_not_open(plaintext: bytes, data: st.DataObject) -> None:
    key = crypto.Key.generate()
    sealed = crypto.seal(plaintext, key, context=NOUR)
    cut = data.draw(st.integers(0, len(sealed) - 1))
    for wrong in (sealed[:cut], sealed + b"\0", b""):
        with pytest.raises(crypto.CryptoError):
            crypto.open_(wrong, key, context=NOUR)


def test_a_value_of_one_clinic_does_not_open_as_another_clinics() -> None:
    key = crypto.Key.generate()
    sealed = crypto.seal(b"diagnosis", key, context=NOUR)
    with pytest.raises(crypto.Tampered):
        crypto.open_(sealed, key, context=OAK)
    with pytest.raises(crypto.WrongKey) as caught:
        crypto.open_(sealed, crypto.Key.generate(), context=NOUR)
    assert caught.value.needed == key.id.hex()


@given(left=contexts, right=contexts)
def test_two_different_lists_of_parts_never_give_one_context(left: list[object], right: list[object]) -> None:
    # Numbers are bound by their digits: bind(1) and bind("1") are one context on purpose.
    spelled = [[part if isinstance(part, bytes) else str(part) for part in parts] for parts in (left, right)]
    assert (crypto.bind(*left) == crypto.bind(*right)) == (spelled[0] == spelled[1])


def test_keys_are_wrapped_down_the_chain_and_bound_to_their_place() -> None:
    master, tenant, data = crypto.Key.generate(), crypto.Key.generate(), crypto.Key.generate()
    wrapped_tenant = crypto.wrap_key(tenant, under=master, context=NOUR)
    wrapped_data = crypto.wrap_key(data, under=tenant, context=crypto.bind("recording", 1))
    assert crypto.unwrap_key(wrapped_tenant, under=master, context=NOUR) == tenant
    assert crypto.unwrap_key(wrapped_data, under=tenant, context=crypto.bind("recording", 1)) == data
    assert tenant.reveal() not in wrapped_tenant
    with pytest.raises(crypto.Tampered):
        crypto.unwrap_key(wrapped_data, under=tenant, context=crypto.bind("recording", 2))
    with pytest.raises(crypto.Tampered):
        crypto.unwrap_key(wrapped_tenant, under=master, context=OAK)
    with pytest.raises(crypto.WrongKey):
        crypto.unwrap_key(wrapped_data, under=master, context=crypto.bind("recording", 1))


def test_a_sealed_value_is_not_taken_for_a_wrapped_key() -> None:
    key, other = crypto.Key.generate(), crypto.Key.generate()
    sealed = crypto.seal(other.reveal(), key, context=NOUR)
    with pytest.raises(crypto.NotSealed):
        crypto.unwrap_key(sealed, under=key, context=NOUR)
    with pytest.raises(crypto.NotSealed):
        crypto.open_(crypto.wrap_key(other, under=key, context=NOUR), key, context=NOUR)


def test_keys_do_not_show_themselves() -> None:
    key, signing = crypto.Key.generate(), crypto.SigningKey.generate()
    for secret, shown in ((key.reveal(), repr(key)), (signing.to_bytes(), repr(signing))):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    for kept in (key, signing):
        with pytest.raises(TypeError):
            pickle.dumps(kept)
    with pytest.raises(ValueError, match="32 bytes"):
        crypto.Key(b"short")


def test_the_master_key_is_made_once_and_for_one_user(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    with pytest.raises(crypto.KeyFileError, match="there is no master key"):
        crypto.load_master_key(path)
    key = crypto.ensure_master_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() == key.reveal()
    assert crypto.ensure_master_key(path) == crypto.load_master_key(path) == key
    with pytest.raises(crypto.KeyFileError, match="not overwritten"):
        crypto.create_master_key(path)
    assert crypto.load_master_key(path) == key
    assert [entry.name for entry in tmp_path.iterdir()] == ["master.key"]


def test_a_master_key_is_private_even_under_a_careless_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        crypto.create_master_key(tmp_path / "master.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "master.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_master_key_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    crypto.create_master_key(path)
    path.chmod(mode)
    for load in (crypto.load_master_key, crypto.ensure_master_key):
        with pytest.raises(crypto.KeyFileError, match="other users"):
            load(path)


def test_a_damaged_master_key_is_refused_and_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    for content in (b"", b"x" * 31, b"x" * 33):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(crypto.KeyFileError, match="32"):
            crypto.ensure_master_key(path)
        assert path.read_bytes() == content
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(crypto.KeyFileError):
        crypto.ensure_master_key(path)
    assert not (tmp_path / "elsewhere").exists()


@given(message=st.binary(max_size=100), data=st.data())
def test_a_signature_holds_for_its_message_and_key_only(message: bytes, data: st.DataObject) -> None:
    signer = crypto.SigningKey.generate()
    signature = signer.sign(message)
    crypto.verify(signer.public, signature, message)
    assert crypto.SigningKey(signer.to_bytes()).sign(message) == signature
    forged = bytearray(signature)
    forged[data.draw(st.integers(0, 63))] ^= 1 << data.draw(st.integers(0, 7))
    for public, wrong, text in (
        (signer.public, bytes(forged), message),
        (signer.public, signature, message + b"."),
        (crypto.SigningKey.generate().public, signature, message),
        (b"short", signature, message),
        (signer.public, b"", message),
    ):
        with pytest.raises(crypto.BadSignature):
            crypto.verify(public, wrong, text)


def test_tokens_are_long_different_and_stored_as_hashes() -> None:
    tokens = {crypto.random_token() for _ in range(100)}
    assert len(tokens) == 100
    token = tokens.pop()
    assert len(token) == 43
    assert len(crypto.token_hash(token)) == 32
    assert token.encode() not in crypto.token_hash(token)
    assert crypto.same(crypto.token_hash(token), crypto.token_hash(token))
    assert not crypto.same(token, tokens.pop())
    with pytest.raises(ValueError, match="16"):
        crypto.random_token(8)
