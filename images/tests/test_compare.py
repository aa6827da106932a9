"""A difference between two builds is found wherever it is, and said by file."""

import os

from qanun_images import compare


def test_files_with_the_same_bytes_are_the_same_however_they_are_stored(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        path.write_bytes(b"\0" * 8_000_000)
    with one.open("wb") as sparse:
        sparse.truncate(8_000_000)
    assert compare.same(one, other)
    assert compare.first_difference(one, other) is None


def test_one_byte_behind_a_hole_is_a_difference(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for path, byte in ((one, b"a"), (other, b"b")):
        with path.open("wb") as sparse:
            sparse.seek(9_000_001)
            sparse.write(byte)
    assert not compare.same(one, other)
    assert compare.first_difference(one, other) == 9_000_001


def test_the_trees_differences_are_named_with_what_differs(tmp_path):
    for name in ("one", "other"):
        tree = tmp_path / name
        (tree / "etc").mkdir(parents=True)
        (tree / "etc/same").write_text("same")
        (tree / "etc/content").write_text(name)
        os.symlink(name, tree / "etc/link")
        (tree / f"only-{name}").write_text("")
        for path in (tree / "etc/same", tree / "etc/content", tree / "etc", tree / f"only-{name}"):
            os.utime(path, (1, 1))
        os.utime(tree / "etc/link", (1, 1), follow_symlinks=False)
    (tmp_path / "other/etc/same").chmod(0o600)
    said = list(compare.trees(tmp_path / "one", tmp_path / "other"))
    assert [line.split(":")[0] for line in said] == ["etc/content", "etc/link", "etc/same", "only-one", "only-other"]
    assert "mode" in said[2] and "content" not in said[2]
    assert said[3].endswith("only in the first")
