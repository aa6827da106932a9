"""What a patient may do in the portal with their own record."""

from qanun.api import Permissions


class Portal(Permissions):
    """Permissions of the patient's own pages."""

    HOME_READ = "portal.home:read"
    ACCESS_READ = "portal.access:read"
