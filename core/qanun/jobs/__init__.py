"""Background work on procrastinate: deferred in the transaction of the act, retried, run by a worker process.

Every job belongs to one clinic: its arguments carry `tenant_id` and the worker opens that clinic's scope before calling
it. It does not know what jobs do; plugins contribute `Job` descriptors.
"""

from qanun.jobs.queue import Job, defer, tables_sql, worker_app

__all__ = ["Job", "defer", "tables_sql", "worker_app"]
