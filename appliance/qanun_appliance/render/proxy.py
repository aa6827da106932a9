"""Caddy: HTTPS for everybody, the machine's own root certificate for whoever wants to trust it, a page while it mends itself."""

from __future__ import annotations

from qanun_appliance.places import DATA
from qanun_appliance.render.files import HEAD, Rendered
from qanun_appliance.site import Site

WEB = "127.0.0.1:8000"
_THEN = ("caddy.service:reload",)

_MAINTENANCE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><meta http-equiv="refresh" content="10"><title>Qanun</title>
<p>Qanun is being started or repaired. This page looks again every ten seconds. What was saved is safe.
<p lang="ar" dir="rtl">يجري تشغيل قانون أو إصلاحه. تُعيد هذه الصفحة المحاولة كل عشر ثوانٍ. ما حُفظ من قبل في أمان.
</html>
"""


def proxy_files(site: Site) -> list[Rendered]:
    own = site.certificate.kind == "own"
    public = site.certificate.kind == "acme"
    options = ["admin unix//run/caddy/admin.sock", "grace_period 5s"]
    if public:
        options += [f"email {site.certificate.email}"] if site.certificate.email else []
        options += [f"acme_ca {site.certificate.directory}"] if site.certificate.directory else []
    else:
        options += ["auto_https off", f"default_sni {site.hosts[0]}"]
    # HTTP/3 would open a UDP port that no firewall of a clinic expects.
    options += ["servers {\n\t\tprotocols h1 h2\n\t}", "log {\n\t\toutput stderr\n\t\tlevel WARN\n\t}"]
    where = ", ".join(site.hosts) if public else ":443"
    lines = ["{", *(f"\t{option}" for option in options), "}", "", f"{where} {{"]
    if not public:
        lines.append(f"\ttls {DATA}/tls/server.crt {DATA}/tls/server.key")
    if not own:
        lines.append('\theader Strict-Transport-Security "max-age=31536000"')
    if own:
        # A page of the set-up, still at another address, asks for it to see whether this one answers already.
        lines.append(f"\thandle /qanun-ca.crt {{\n\t\troot * {DATA}/tls\n\t\tfile_server\n\t}}")
    lines += [
        "\theader -Server",
        "\trequest_body {\n\t\tmax_size 25MB\n\t}",
        f"\treverse_proxy {WEB} {{\n\t\tlb_try_duration 4s\n\t\tlb_try_interval 250ms\n"
        "\t\theader_up X-Real-IP {remote_host}\n\t}",
        "\thandle_errors {\n\t\troot * /etc/qanun\n\t\trewrite * /maintenance.html\n"
        "\t\theader Retry-After 10\n\t\theader Cache-Control no-store\n\t\tfile_server {\n\t\t\tstatus 503\n\t\t}\n\t}",
        "}",
        "",
    ]
    if not public:
        lines += ["http:// {", "\theader -Server"]
        if own:
            # The root is public, and nobody trusts us yet: it is the one thing that plain HTTP gives out.
            for name, kind in (("crt", "x-x509-ca-cert"), ("mobileconfig", "x-apple-aspen-config")):
                lines.append(
                    f"\thandle /qanun-ca.{name} {{\n\t\troot * {DATA}/tls\n"
                    f"\t\theader Content-Type application/{kind}\n\t\tfile_server\n\t}}"
                )
        lines += ["\thandle {\n\t\tredir https://{host}{uri} 308\n\t}", "}", ""]
    dropin = HEAD + (
        "[Unit]\nPartOf=qanun.target\n[Service]\nRuntimeDirectory=caddy\nRuntimeDirectoryMode=0700\n"
        "NoNewPrivileges=yes\nProtectSystem=strict\n"
        "ReadWritePaths=-/var/lib/caddy\nProtectHome=yes\nPrivateDevices=yes\nProtectKernelTunables=yes\n"
        "ProtectKernelModules=yes\nProtectKernelLogs=yes\nProtectControlGroups=yes\nProtectClock=yes\nProtectHostname=yes\n"
        "RestrictNamespaces=yes\nRestrictRealtime=yes\nRestrictSUIDSGID=yes\nLockPersonality=yes\n"
        "MemoryDenyWriteExecute=yes\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\nSystemCallArchitectures=native\n"
        "SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\nSystemCallErrorNumber=EPERM\n"
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\nUMask=0077\nRestart=always\nRestartSec=1\n"
        "CPUWeight=300\nMemoryMax=20%\n"
    )
    return [
        Rendered(path="/etc/caddy/Caddyfile", content=HEAD + "\n".join(lines), then=_THEN),
        Rendered(path="/etc/qanun/maintenance.html", content=_MAINTENANCE),
        Rendered(
            path="/etc/systemd/system/caddy.service.d/qanun.conf", content=dropin,
            then=("daemon-reload", "caddy.service:restart"),
        ),
    ]  # fmt: skip
