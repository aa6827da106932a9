"""Going back to an earlier release: its upgrade finds tables that a later one changed, and leaves them."""

import sqlalchemy as sa

from qanun.db.migrations import owner_connection, status, upgrade
from qanun.testing import ScratchPostgres


def test_an_earlier_release_starts_on_the_tables_of_a_later_one_and_changes_nothing():
    from qanun.app.build import gather

    lineages = gather()[1].lineages()
    core, later = lineages[0], "ffff_of_a_later_release"
    scratch = ScratchPostgres().start()
    try:
        upgrade(scratch.owner_url, lineages)
        with owner_connection(scratch.owner_url) as connection:
            connection.execute(sa.text(f"update {core.version_table} set version_num = :later"), {"later": later})
            connection.execute(sa.text("alter table core_tenant add column of_a_later_release text"))
            connection.commit()
        found = {line.slug: line for line in upgrade(scratch.owner_url, lineages)}
        assert (found["core"].state, found["core"].current) == ("ahead", later)
        assert all(line.state == "up to date" for slug, line in found.items() if slug != "core")
        assert found == {line.slug: line for line in status(scratch.owner_url, lineages)}
        with owner_connection(scratch.owner_url) as connection:
            connection.execute(sa.text("select of_a_later_release from core_tenant"))
    finally:
        scratch.stop()
