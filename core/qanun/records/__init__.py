"""The FHIR-shaped broker between plugins: whoever registered a resource type answers for it.

Plugins never import one another; they ask `ctx.records.search("Encounter", patient=…)`. Permission, tenancy and audit
are applied here, in one place. Results are plain dictionaries with FHIR R4 element names. It stores nothing.
"""

from qanun.records.broker import Records, ResourceProvider

__all__ = ["Records", "ResourceProvider"]
