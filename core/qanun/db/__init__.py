"""Engine, base model and migrations: how rows are declared, reached and versioned. Knows no tenant's identity."""

from qanun.db.base import Base, GlobalModel, TenantModel, new_id, patient_key, practitioner_key, ref
from qanun.db.engine import Database, ScopeState, UnscopedStatement, trusted

__all__ = [
    "Base",
    "Database",
    "GlobalModel",
    "ScopeState",
    "TenantModel",
    "UnscopedStatement",
    "new_id",
    "patient_key",
    "practitioner_key",
    "ref",
    "trusted",
]
