"""A site file is taken as a whole or refused with every field that is wrong."""

import pytest

from qanun_appliance.site import load_site, parse_site
from qanun_appliance.site_table import SiteFault


def faults(table):
    with pytest.raises(SiteFault) as refused:
        parse_site(table)
    return dict(refused.value.faults)


def test_a_right_file_is_read_with_what_is_usual_where_it_says_nothing(tmp_path, site_text):
    path = tmp_path / "site.toml"
    path.write_text(site_text)
    site = load_site(path)
    assert (site.clinic.slug, site.base_url, site.media_port) == ("al-razi", "https://clinic.lan", 8100)
    assert site.turn.enabled and site.backup.at == "02:00" and site.ssh == "off"


@pytest.mark.parametrize(
    ("section", "name", "value", "sentence"),
    [
        ("clinic", "slug", "Al Razi", "small letters"),
        ("clinic", "timezone", "Casablanca", "time zone"),
        ("clinic", "currency", "dirham", "three capitals"),
        ("clinic", "name", "a\nb", "one line"),
        ("hosts", "names", ["Clinic LAN"], "host name"),
        ("hosts", "names", [], "at least 1"),
        ("hosts", "names", ["x.example} evil {"], "host name"),
        ("network", "address", "192.168.7.10", "prefix length"),
        ("network", "mode", "wifi", "dhcp, static, unmanaged"),
        ("network", "interface", "eth0; reboot", "interface"),
        ("time", "servers", ["pool ntp"], "host name"),
        ("certificate", "kind", "self", "own, acme, given"),
        ("backup", "target", "backup disk", "absolute folder"),
        ("backup", "target", "/mnt/$(reboot)", "absolute folder"),
        ("backup", "at", "25:00", "time of day"),
        ("ssh", "mode", "password", "off, keys"),
        ("media", "advertise", ["clinic.lan"], "not an IP address"),
        ("media", "advertise", ["fe80::5"], "one link"),
        ("media", "advertise", ["fe80::5%eth0"], "one link"),
        ("media", "advertise", ["::ffff:192.0.2.5"], "write 192.0.2.5"),
        ("media", "advertise", ["192.0.2.5", "::"], "no address that a browser could reach"),
        ("media", "nodes", ["[2001:db8::7]"], "not an IP address"),
        ("turn", "external", "2001:db8::5", "not an IPv4 address"),
        ("administrator", "email", "salma", "e-mail"),
    ],
)
def test_a_wrong_field_is_named_with_what_is_wanted(site_table, section, name, value, sentence):
    site_table.setdefault(section, {})[name] = value
    assert sentence in faults(site_table)[f"{section}.{name}"]


def test_addresses_of_calls_may_be_of_either_family(site_table):
    site_table["media"] = {"advertise": ["192.0.2.5", "2001:db8::5"], "nodes": ["2001:db8::7"]}
    site = parse_site(site_table)
    assert site.media_advertise == ("192.0.2.5", "2001:db8::5") and site.media_nodes == ("2001:db8::7",)
    site_table["network"] = {"mode": "static", "address": "2001:db8::5/64", "gateway": "fe80::1"}
    site_table["hosts"]["names"] = ["2001:db8::5"]
    site = parse_site(site_table)
    assert site.network.address == "2001:db8::5/64" and site.base_url == "https://[2001:db8::5]"


def test_all_faults_are_told_at_once(site_table):
    site_table["clinic"]["slug"] = "X"
    site_table["network"]["gateway"] = "door"
    site_table["colour"] = "blue"
    site_table["ssh"]["kys"] = []
    assert set(faults(site_table)) == {"clinic.slug", "network.gateway", "colour", "ssh.kys"}


def test_a_missing_section_is_one_fault_and_not_ten(site_table):
    del site_table["clinic"]
    assert faults(site_table) == {"clinic": "the section [clinic] is missing"}


def test_ssh_with_keys_needs_a_key_and_never_takes_a_password(site_table):
    site_table["ssh"] = {"mode": "keys"}
    assert "passwords are never accepted" in faults(site_table)["ssh.keys"]
    site_table["ssh"]["keys"] = ["ssh-ed25519 " + "A" * 68 + " it@clinic"]
    assert parse_site(site_table).ssh == "keys"


def test_a_public_authority_is_refused_for_names_that_only_the_clinic_knows(site_table):
    site_table["certificate"] = {"kind": "acme", "email": "it@clinic.example"}
    assert "public names only" in faults(site_table)["hosts.names"]
    site_table["hosts"]["names"] = ["clinic.example"]
    assert parse_site(site_table).certificate.kind == "acme"


def test_a_static_network_needs_its_address_and_given_certificates_their_files(site_table):
    del site_table["network"]["address"]
    site_table["certificate"] = {"kind": "given"}
    assert set(faults(site_table)) == {"network.address", "certificate.certificate", "certificate.key"}


def test_a_file_of_a_later_release_and_one_that_is_not_toml_say_so(tmp_path, site_table):
    site_table["version"] = 2
    assert "later release" in faults(site_table)["version"]
    (tmp_path / "site.toml").write_text("clinic = ")
    with pytest.raises(SiteFault, match="not a TOML file"):
        load_site(tmp_path / "site.toml")
    with pytest.raises(SiteFault, match="No such file"):
        load_site(tmp_path / "none.toml")


def test_two_services_cannot_share_a_port(site_table):
    site_table["media"] = {"port": 3478}
    assert "share a port" in faults(site_table)["media.port"]
