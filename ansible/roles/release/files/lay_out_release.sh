#!/bin/sh
# Installs a release beside the running one: checked by its hash, from the wheels in it, without any network.
# The file `complete` is written last; a folder without it is no release and is made anew.
set -eu
umask 022
all=$1 id=$2 sha256=$3 python=$4 tar=$5
home=$all/$id

fail() {
    echo "$1" >&2
    exit 1
}

[ "$(sha256sum < "$tar")" = "$sha256  -" ] || fail "the file that arrived is not the one that release.json names"
have=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$have" = "$python" ] || fail "this release is for Python $python (Debian 13); this server has $have"
pip=$(find /usr/share/python-wheels -name 'pip-*.whl' | sort | tail -n 1)
[ -n "$pip" ] || fail "Debian's package python3-venv is missing"

rm -rf "$home"
mkdir -p "$all"
python3 -m venv --without-pip "$home"
mkdir "$home/bundle"
tar -xf "$tar" -C "$home/bundle" --no-same-owner
cd "$home/bundle"
"$home/bin/python" "$pip/pip" install --quiet --no-input --disable-pip-version-check --no-cache-dir --root-user-action ignore \
    --no-index --find-links wheels --no-deps --require-hashes --no-compile -r requirements.txt
mkdir -p "$home/share/qanun"
mv locale "$home/share/qanun/locale"
# At a prompt, without the services' environment, the translations are found beside the code.
ln -s ../../../../share/qanun/locale "$home/lib/python$python/site-packages/qanun/locale"
version=$(cat version)
cd /
rm -rf "$home/bundle" "$home/include"
rm -f "$home"/bin/[aA]ctivate*
"$home/bin/python" -m compileall -q -j 0 "$home/lib"
chown -R root:root "$home"
chmod -R u=rwX,go=rX "$home"
sync -f "$home"
echo "$version" > "$home/complete"
sync -f "$home"
rm -f "$tar"
