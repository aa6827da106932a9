"""What a patient may do in the portal with their own record."""

from qanun.api import N_, Permissions


class Portal(Permissions):
    """Permissions of the patient's own pages."""

    HOME_READ = "portal.home:read", N_("Open one’s own pages")
    ACCESS_READ = "portal.access:read", N_("See who opened one’s record")
