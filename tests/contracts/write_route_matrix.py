"""Writes `route_matrix.toml` anew from what routes declare and roles are granted. Read the difference before committing it:
every line that appears is a door that somebody opens."""

from pathlib import Path

from qanun.access import Grant, Role
from qanun.app.build import Assembly, gather
from qanun.app.web import all_routes, web_application

if __name__ == "__main__":
    registry, plugins = gather()
    application = web_application(Assembly(None, registry, plugins, None))  # type: ignore[arg-type]
    lines = [
        "# Who gets through each route. Written by write_route_matrix.py, reviewed by a person.",
        "# public: nobody needs to sign in.",
    ]
    rows = []
    for path, handler in all_routes(application):
        for method in sorted(getattr(handler, "http_methods", {"WEBSOCKET"}) - {"HEAD", "OPTIONS"}):
            permission = handler.opt.get("permission")
            held = [grant.role for grant in registry.all(Grant) if permission in map(str, grant.permissions)]
            audience = handler.opt["audience"]
            own = {role.name for role in registry.all(Role) if role.audience == audience}
            roles = ["public"] if handler.opt.get("public") else sorted(own.intersection(held))
            named = ", ".join(f'"{role}"' for role in roles)
            rows.append(f'"{method} {path}" = {{ permission = "{permission or ""}", roles = [{named}] }}')
    Path(__file__).with_name("route_matrix.toml").write_text("\n".join([*lines, *sorted(rows), ""]), encoding="utf-8")
