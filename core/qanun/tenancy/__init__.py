"""The tenant scope: the only way to a session, and the rules that keep a session inside one clinic."""

from qanun.tenancy.models import Tenant, TenantInfo
from qanun.tenancy.scope import global_session, lookup_session, tenant_session

__all__ = ["Tenant", "TenantInfo", "global_session", "lookup_session", "tenant_session"]
