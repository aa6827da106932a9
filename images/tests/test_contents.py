"""What is in the image, and what must never be: compared with lists that are reviewed when they change."""

import json
import re
import subprocess

import pytest
from bootstrap import Missing
from qanun_images import inspection, lock, release, tools, wheels
from qanun_images.places import ROOT, SLOT_BUDGET
from qanun_images.slot import identity

from qanun_appliance.render.setup import UNITS
from qanun_appliance.update.bundle import Refused, read_manifest


def expected(name):
    folder = ROOT / "images/tests/expected"
    return (folder / name).read_text().splitlines()


def test_two_builds_as_different_as_can_be_are_the_same_byte_for_byte(built):
    if not built.verdict:
        pytest.skip("the build was made before (QANUN_IMAGE_BUILT); ./images/verify compares")
    assert built.code == 0, built.verdict
    assert "the same, byte for byte" in built.verdict


def test_the_slot_fits_its_budget(built):
    assert built.image.stat().st_size <= SLOT_BUDGET


def test_nothing_secret_and_nothing_of_one_machine_is_inside(built):
    assert inspection.identities(built.tree) == []


def test_the_search_for_secrets_finds_them(tmp_path):
    (tmp_path / "etc/ssh").mkdir(parents=True)
    (tmp_path / "etc/ssh/ssh_host_ed25519_key").write_text(
        "-----BEGIN OPENSSH PRIVATE KEY-----\n" + "A" * 200 + "\n-----END OPENSSH PRIVATE KEY-----\n"
    )
    (tmp_path / "etc/machine-id").write_text("b08dfa6083e7567a1921a715000001fb\n")
    (tmp_path / "etc/shadow").write_text("root:$y$j9T$x:20000::::::\ndaemon:*:20000::::::\n")
    assert len(inspection.identities(tmp_path)) == 4


def test_programs_with_privileges_are_the_known_ones(built):
    assert inspection.privileged(built.tree) == expected("privileged.txt")


def test_accounts_and_their_numbers_are_the_known_ones(built):
    assert inspection.accounts(built.tree) == expected("accounts.txt")


def test_what_starts_by_itself_is_known(built):
    assert inspection.started(built.tree) == expected("started.txt")


def test_every_file_has_an_owner_and_none_is_everybodys(built):
    assert inspection.ownerless(built.tree) == []


def test_nothing_tells_where_it_was_built(built):
    assert inspection.traces(built.tree, str(ROOT), "qanun-build") == []


def test_every_requirement_of_every_distribution_is_met(built):
    question = """
import importlib.metadata as m
from packaging.requirements import Requirement
there = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in m.distributions()}
for d in m.distributions():
    for r in map(Requirement, d.requires or ()):
        if (r.marker is None or r.marker.evaluate({"extra": ""})) and not r.specifier.contains(there.get(r.name.lower().replace("_", "-"), "0"), prereleases=True):
            print(d.metadata["Name"], r)
"""
    said = tools.run_in(built.tree, ["/opt/qanun/bin/python", "-I", "-c", question], epoch=0)
    missing = {line.split()[1].split(">")[0] for line in said.splitlines()}
    assert missing <= wheels.NOT_ON_THE_BOX, said


def test_the_fast_media_engine_and_every_plugin_are_there(built):
    question = "from qanun_telemedicine.sfu import native; native.load(); import importlib.metadata as m; print(*sorted(e.name for e in m.entry_points(group='qanun.plugins')))"
    said = tools.run_in(built.tree, ["/opt/qanun/bin/python", "-I", "-c", question], epoch=0)
    assert said.split() == sorted(
        {path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml")} | {"appliance"}
    )


def test_the_box_s_note_of_what_plugins_ask_of_it_is_what_they_ask(built):
    said = tools.run_in(built.tree, ["/opt/qanun/bin/qanun", "appliance", "services"], epoch=0)
    assert (built.tree / "opt/qanun/share/qanun/services.json").read_text().strip() == said.strip()
    assert "telemedicine.turn" in said


def test_a_box_without_a_site_has_every_unit_of_its_pages_and_no_other_of_a_clinics(built):
    units = {path.name for path in (built.tree / "usr/lib/systemd/system").glob("qanun-*") if path.is_file()}
    others = {f"qanun-{name}.service" for name in ("apply", "restored", "prepare", "health", "install@", "var")}
    assert units == {*UNITS, *others, "qanun-install.target"}


def test_nothing_but_the_site_file_opens_ssh(built):
    makers = {path.name for path in (built.tree / "usr/lib/systemd/system-generators").iterdir()}
    assert makers == {
        f"systemd-{name}-generator"
        for name in ("bless-boot", "cryptsetup", "debug", "fstab", "getty", "tpm2", "veritysetup")
    }
    wants = [path.name for path in (built.tree / "etc/systemd/system").glob("*.wants/*")]
    assert wants and not [name for name in wants if name.startswith(("ssh", "sshd"))]


def test_arabic_is_complete_on_the_box(built):
    catalogues = {path.name for path in (built.tree / "opt/qanun/share/qanun/locale/ar/LC_MESSAGES").iterdir()}
    assert catalogues == {path.with_suffix(".mo").name for path in (ROOT / "locale/ar/LC_MESSAGES").glob("*.po")}
    fonts = tools.run_in(built.tree, ["fc-list", ":lang=ar", "family"], epoch=0)
    assert "Noto Naskh Arabic" in fonts


class TestStart:
    @pytest.fixture
    def words(self, built):
        """The command line inside the boot file: word → value."""
        release = (built.tree / "usr/lib/qanun/slot").read_text().strip()
        content = (built.folder / f"qanun_{release}.efi").read_bytes()
        line = re.search(rb"root=/dev/mapper/qanun-root [ -~]*", content).group(0).decode()
        return dict(word.partition("=")[::2] for word in line.split())

    def test_a_boot_file_starts_exactly_its_slot(self, built, words):
        manifest = json.loads((built.folder / "manifest.json").read_text())
        assert words["qanun.roothash"] == manifest["roothash"]
        assert words["qanun.slot"] == f"qanun-root-{manifest['version']}"
        assert words["root"] == "/dev/mapper/qanun-root"

    def test_the_slot_is_what_its_boot_file_expects_and_one_changed_byte_is_found(self, built, words, tmp_path):
        offset = int(words["qanun.hashoffset"])
        check = ["veritysetup", "verify", "/slot", "/slot", words["qanun.roothash"], f"--hash-offset={offset}"]
        tools.run_in(tools.folder(), check, binds={built.image: "/slot"}, epoch=0)
        copy = tmp_path / "slot.img"
        subprocess.run(["cp", "--sparse=always", built.image, copy], check=True)
        with copy.open("r+b") as file:
            file.seek(offset // 2)
            byte = file.read(1)
            file.seek(offset // 2)
            file.write(bytes([byte[0] ^ 1]))
        with pytest.raises(Missing, match=r"(?i)verif|corrupt"):
            tools.run_in(tools.folder(), check, binds={copy: "/slot"}, epoch=0)

    def test_names_in_the_partition_table_are_the_same_in_every_build(self):
        assert identity("slot 1") == identity("slot 1") != identity("slot 2")


class TestPapers:
    def test_the_list_of_parts_has_every_package_wheel_and_asset(self, built):
        parts = json.loads((built.folder / "sbom.cdx.json").read_text())
        refs = {part["bom-ref"] for part in parts["components"]}
        assert len(refs) == len(parts["components"])
        names = {(part["purl"].split("/")[0], part["name"], part["version"]) for part in parts["components"]}
        assert {("pkg:deb", deb.name, deb.version) for deb in lock.read(lock.DEBS).debs} <= names
        assert {("pkg:pypi", wheel.name, wheel.version) for wheel in wheels.read() if wheel.use == "box"} <= names
        assert ("pkg:pypi", "qanun", "0.1.0") in names and any(kind == "pkg:npm" for kind, _, _ in names)
        assert all(part.get("hashes") for part in parts["components"] if part["purl"].startswith("pkg:deb"))
        unknown = [part["purl"] for part in parts["components"] if not part.get("licenses")]
        assert len(unknown) <= len(refs) // 20, unknown

    def test_hashes_are_those_of_the_files(self, built):
        lines = dict(reversed(line.split("  ")) for line in (built.folder / "SHA256SUMS").read_text().splitlines())
        assert {"slot.img", "manifest.json", "sbom.cdx.json"} <= lines.keys()
        assert all(release.sha256(built.folder / name) == digest for name, digest in lines.items())

    @pytest.fixture
    def key(self, tmp_path):
        path = tmp_path / "key.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", path], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", path, "-pubout", "-out", tmp_path / "public.pem"], check=True)
        der = subprocess.run(
            ["openssl", "pkey", "-in", path, "-pubout", "-outform", "DER"], check=True, capture_output=True
        ).stdout
        return path, tmp_path / "public.pem", der[-32:]

    def test_a_signature_is_the_builders_and_the_box_takes_it(self, built, key, tmp_path):
        private, public, raw = key
        folder = tmp_path / "out"
        folder.mkdir()
        (folder / "manifest.json").write_bytes((built.folder / "manifest.json").read_bytes())
        assert not release.signed_by(folder, public)
        release.sign(folder, private)
        assert release.signed_by(folder, public)
        manifest, signature = (folder / "manifest.json").read_bytes(), (folder / "manifest.json.sig").read_bytes()
        taken = read_manifest(manifest, signature, [raw])
        assert taken.boot_file in taken.files and "slot.img" in taken.files and "core" in taken.schema
        with pytest.raises(Refused):
            read_manifest(manifest.replace(b"qanun", b"qanum", 1), signature, [raw])
        with pytest.raises(Refused):
            read_manifest(manifest, signature, [bytes(32)])

    def test_a_key_that_lies_in_a_checkout_signs_nothing(self, built):
        with pytest.raises(Missing, match="must never be"):
            release.sign(built.folder, ROOT / "README.md")
        assert not (built.folder / "manifest.json.sig").exists()
