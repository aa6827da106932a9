"""PostgreSQL: on its socket only, sized to the machine, its log archived for the backup, nobody's data in its messages."""

from __future__ import annotations

from qanun_appliance.places import DATA
from qanun_appliance.render.files import HEAD, Machine, Rendered

FOLDER = "/etc/qanun/postgresql"
SOCKETS = "/run/postgresql"
_UNIT = "qanun-postgresql.service"
#: Seconds after which an unfinished piece of the log is archived: with the five-minute timer, what can be lost at most.
ARCHIVE_S = 120
#: Copied, written down and only then renamed: what has its name is whole. A piece that is there is never replaced.
_ARCHIVE = f"test ! -e {DATA}/wal/%f && cp %p {DATA}/wal/.%f && sync {DATA}/wal/.%f && mv {DATA}/wal/.%f {DATA}/wal/%f"


def database_files(machine: Machine, *, archive: bool) -> list[Rendered]:
    """`archive`: whether somebody takes the log's pieces away; without a backup they would only fill the disk."""
    memory = machine.memory_mb
    settings = {
        "listen_addresses": "''",
        "unix_socket_directories": f"'{SOCKETS}'",
        "unix_socket_permissions": "0777",
        "hba_file": f"'{FOLDER}/pg_hba.conf'",
        "ident_file": f"'{FOLDER}/pg_ident.conf'",
        "max_connections": "100",
        "shared_buffers": f"{max(64, memory // 5)}MB",
        "effective_cache_size": f"{max(128, memory // 2)}MB",
        "work_mem": f"{max(4, min(32, memory // 500))}MB",
        "maintenance_work_mem": f"{max(32, min(512, memory // 20))}MB",
        "max_worker_processes": str(max(4, machine.cores)),
        "max_parallel_workers_per_gather": str(min(2, machine.cores // 2)),
        "jit": "off",
        "wal_level": "replica",
        "wal_compression": "on",
        "max_wal_senders": "4",
        "max_wal_size": "1GB",
        "archive_mode": "on",
        "archive_command": f"'{_ARCHIVE if archive else '/bin/true'}'",
        "archive_timeout": f"{ARCHIVE_S if archive else 0}",
        "checkpoint_completion_target": "0.9",
        "random_page_cost": "1.1",
        "timezone": "'UTC'",
        "log_timezone": "'UTC'",
        "log_destination": "'stderr'",
        "logging_collector": "off",
        "log_statement": "'none'",
        # A refused statement, and the error itself, may carry what somebody typed about a patient: neither is logged here;
        # the application says which of its acts failed. What concerns the server (LOG and above) is.
        "log_min_messages": "'log'",
        "log_min_error_statement": "'panic'",
        "log_parameter_max_length": "0",
        "log_parameter_max_length_on_error": "0",
        "log_error_verbosity": "'terse'",
        "log_checkpoints": "off",
        "password_encryption": "'scram-sha-256'",
    }
    text = HEAD + "".join(f"{name} = {value}\n" for name, value in settings.items())
    access = HEAD + (
        "# Nobody comes over the network. On the socket, the account that asks decides which role it may have.\n"
        "local all all peer map=qanun\n"
        "local replication postgres peer map=qanun\n"
    )
    accounts = HEAD + (
        "qanun qanun qanun_app\n"
        "qanun postgres postgres\n"
        "qanun postgres qanun_owner\n"
        "qanun root postgres\n"
        "qanun root qanun_owner\n"
    )
    then = (f"{_UNIT}:restart",)
    return [
        Rendered(path=f"{FOLDER}/postgresql.conf", content=text, then=then),
        Rendered(path=f"{FOLDER}/pg_hba.conf", content=access, then=(f"{_UNIT}:reload",), mode=0o640, group="postgres"),
        Rendered(
            path=f"{FOLDER}/pg_ident.conf", content=accounts, then=(f"{_UNIT}:reload",), mode=0o640, group="postgres"
        ),
    ]
