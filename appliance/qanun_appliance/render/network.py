"""Addresses, name, firewall, time and remote access: what of the machine is open, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable

from qanun_appliance.render.files import HEAD, Rendered
from qanun_appliance.site import Site


def network_files(site: Site) -> list[Rendered]:
    files = []
    if site.network.mode != "unmanaged":
        files.append(
            Rendered(
                path="/etc/systemd/network/20-qanun.network", content=HEAD + _link(site),
                then=("systemd-networkd.service:reload",),
            )
        )  # fmt: skip
        files.append(Rendered(path="/etc/hostname", content=f"{site.network.hostname}\n"))
    files.append(
        # Both open a port that answers the whole network, and nothing here needs them.
        Rendered(
            path="/etc/systemd/resolved.conf.d/qanun.conf", content=HEAD + "[Resolve]\nLLMNR=no\nMulticastDNS=no\n",
            then=("systemd-resolved.service:restart",),
        )
    )  # fmt: skip
    return files


def _link(site: Site) -> str:
    network = site.network
    lines = [f"[Match]\nName={network.interface}\n", "[Network]"]
    if network.mode == "dhcp":
        lines.append("DHCP=yes")
    else:
        lines.append(f"Address={network.address}")
        lines += [f"Gateway={network.gateway}"] if network.gateway else []
    lines += [f"DNS={server}" for server in network.dns]
    lines += ["LLMNR=no", "MulticastDNS=no", "LinkLocalAddressing=ipv6"]
    if network.mode == "dhcp":
        lines += ["\n[DHCPv4]", "UseDomains=no"]
    return "\n".join(lines) + "\n"


def allowed(site: Site, ports: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Every (protocol, port) that may be reached from outside: the one list that firewall, doctor and tests share."""
    found = {("tcp", 80), ("tcp", 443), *ports}
    if site.ssh == "keys":
        found.add(("tcp", 22))
    return sorted(found)


def firewall(site: Site, ports: Iterable[tuple[str, int]]) -> Rendered:
    rules = [
        f"\t\t{protocol} dport {port} accept"
        for protocol, port in allowed(site, ports)
        if (protocol, port) != ("tcp", 22)
    ]
    if site.ssh == "keys":
        rules.append("\t\ttcp dport 22 ct state new limit rate 10/minute burst 20 packets accept")
    text = "\n".join((
        "#!/usr/sbin/nft -f",
        HEAD.rstrip(),
        "# Only our own table is replaced: rules of others on a shared machine stay.",
        "table inet qanun",
        "delete table inet qanun",
        "table inet qanun {",
        "\tchain input {",
        "\t\ttype filter hook input priority filter; policy drop;",
        "\t\tiif lo accept",
        "\t\tct state established,related accept",
        "\t\tct state invalid drop",
        "\t\tip protocol icmp limit rate 20/second accept",
        "\t\tmeta l4proto ipv6-icmp limit rate 50/second accept",
        "\t\tudp sport 67 udp dport 68 accept",
        "\t\tip6 saddr fe80::/10 udp sport 547 udp dport 546 accept",
        *rules,
        "\t}",
        "\tchain forward {",
        "\t\ttype filter hook forward priority filter; policy drop;",
        "\t}",
        "}",
        "",
    ))  # fmt: skip
    return Rendered(path="/etc/nftables.conf", content=text, mode=0o755, then=("nftables.service:reload",))


def listeners(site: Site, ports: Iterable[tuple[str, int]]) -> Rendered:
    """The fixed list, for people and for other programs: what may answer the network here. The doctor compares."""
    lines = "".join(f"{protocol} {port}\n" for protocol, port in allowed(site, ports))
    return Rendered(path="/etc/qanun/listeners", content=HEAD + lines)


def time_files(site: Site) -> list[Rendered]:
    lines = [f"server {server} iburst" for server in site.time_servers]
    # No port: this machine asks for the time and tells it to nobody.
    lines += ["port 0", "cmdport 0", "makestep 1 3"]
    return [
        Rendered(
            path="/etc/chrony/conf.d/qanun.conf", content=HEAD + "\n".join(lines) + "\n",
            then=("chrony.service:restart",),
        )
    ]  # fmt: skip


def access_files(site: Site, *, slot: bool) -> list[Rendered]:
    """Remote access: off, or with keys. Passwords are refused in both cases, should somebody start the daemon by hand."""
    text = HEAD + (
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        "X11Forwarding no\nAllowAgentForwarding no\nAllowTcpForwarding no\nMaxAuthTries 3\n"
        "AuthorizedKeysFile /etc/ssh/qanun_keys .ssh/authorized_keys\n"
    )
    # The image's /etc forgets; a stock Debian has its host keys where the package put them.
    text += "HostKey /var/lib/qanun/ssh/ssh_host_ed25519_key\n" if slot else ""
    keys = HEAD + "".join(f"{key}\n" for key in site.ssh_keys)
    return [
        Rendered(path="/etc/ssh/sshd_config.d/qanun.conf", content=text, then=("ssh.service:reload",)),
        Rendered(path="/etc/ssh/qanun_keys", content=keys, mode=0o600),
    ]
