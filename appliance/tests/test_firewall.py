"""The firewall's rules in a real kernel: what a machine on the same wire gets through to, by IPv4 and by IPv6."""

import ast
import json
import shutil
import subprocess
import sys
import textwrap

import pytest

from qanun.app import SystemService
from qanun.app.build import gather
from qanun_appliance.render import open_ports
from qanun_appliance.render.network import firewall
from qanun_appliance.site import parse_site

#: Two machines on a wire: ours has the rules, the other one knocks at every port, the ones that are to stay shut first.
SCRIPT = """
    import json, os, select, socket, subprocess, sys, time
    rules, ports = sys.argv[1], json.loads(sys.argv[2])
    def sh(words): subprocess.run(words.split(), check=True)
    other = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    own = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{other.pid}/ns/net") == own: time.sleep(0.02)
    there = f"nsenter --net=/proc/{other.pid}/ns/net "
    try:
        sh("ip link set lo up")
        sh("ip link add vone type veth peer name vtwo")
        sh(f"ip link set vtwo netns {other.pid}")
        families = {"4": ("192.0.2.1", "192.0.2.2", "/24"), "6": ("2001:db8::1", "2001:db8::2", "/64 nodad")}
        for where, device, side in (("", "vone", 0), (there, "vtwo", 1)):
            sh(f"{where}ip link set {device} up")
            for name, family in list(families.items()):
                if name == "6" and not os.path.exists("/proc/net/if_inet6"):
                    del families[name]
                    continue
                sh(f"{where}ip address add {family[side]}{family[2]} dev {device}")
        sh(f"nft -f {rules}")
        open_ = {}
        for kind, port in ports:
            one = socket.socket(socket.AF_INET6 if "6" in families else socket.AF_INET, getattr(socket, f"SOCK_{kind}"))
            if "6" in families: one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            one.bind(("", port))
            if kind == "STREAM": one.listen()
            open_[one] = (kind, port)
        knocks = '''
    import json, socket, sys, time
    for host in json.loads(sys.argv[1]):
        held = []
        for kind, port in json.loads(sys.argv[2]):
            one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, getattr(socket, f"SOCK_{kind}"))
            one.setblocking(False)
            held.append(one)
            one.connect_ex((host, port))
            if kind == "DGRAM": one.send(host.encode())
        time.sleep(0.5)
    '''
        knocking = subprocess.Popen([*there.split(), sys.executable, "-c", __import__("textwrap").dedent(knocks),
                                     json.dumps([one[0] for one in families.values()]), sys.argv[2]])
        came = set()
        while knocking.poll() is None or select.select(list(open_), [], [], 0)[0]:
            for one in select.select(list(open_), [], [], 0.1)[0]:
                kind, port = open_[one]
                who = one.accept()[1] if kind == "STREAM" else one.recvfrom(100)[1]
                came.add((kind, port, "4" if "." in who[0] else "6"))
        print([sorted(families), sorted(came)])
    finally:
        other.kill()
"""


def test_what_is_open_by_ipv4_is_open_by_ipv6_and_nothing_else_is(site_table, tmp_path):
    for name in ("nft", "ip", "unshare", "nsenter"):
        if shutil.which(name, path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
            pytest.skip(f"{name} is not installed here")
    site_table["media"] = {"workers": 2}
    site = parse_site(site_table)
    allowed = open_ports(site, gather()[0].all(SystemService))
    file = tmp_path / "nftables.conf"
    file.write_text(firewall(site, allowed).content)
    kinds = {"tcp": "STREAM", "udp": "DGRAM"}
    shut = [("STREAM", 5432), ("STREAM", 8000), ("DGRAM", 5355), ("DGRAM", 8102), ("STREAM", 22)]
    wanted = [(kinds[protocol], port) for protocol, port in allowed]
    assert ("DGRAM", 8100) in wanted and ("DGRAM", 8101) in wanted and not set(shut) & set(wanted)
    words = [sys.executable, "-c", textwrap.dedent(SCRIPT), file, json.dumps([*shut, *wanted])]
    done = subprocess.run(["unshare", "--net", *words], capture_output=True, text=True, timeout=60, check=False)
    if "not permitted" in done.stderr or "unshare failed" in done.stderr:
        pytest.skip("no network of one's own can be made here")
    assert done.returncode == 0, done.stderr
    families, came = ast.literal_eval(done.stdout)
    assert came == sorted((kind, port, family) for kind, port in wanted for family in families)
