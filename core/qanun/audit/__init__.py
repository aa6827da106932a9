"""What happened: an append-only, hash-chained record per clinic, written in the transaction of the act."""

from qanun.audit.chain import Verdict, append_and_commit, canonical, verify
from qanun.audit.models import AuditEvent, AuditEventType, AuditHead

__all__ = ["AuditEvent", "AuditEventType", "AuditHead", "Verdict", "append_and_commit", "canonical", "verify"]
