#!/usr/bin/env bash
# Put ONNX Runtime (C headers and library), nlohmann-json and libmd below one directory, for
# machines whose distribution has not all of them. Headers come from Debian's packages, fetched from
# the mirrors that apt is set up with here, verified by apt and unpacked without installing; the
# library is the one of Python's onnxruntime, so that C and Python compute with the same.
#
#     runtime/cpp/fetch_dependencies.sh DIRECTORY     # then cmake -DCMAKE_PREFIX_PATH=DIRECTORY/usr
#
# PYTHON names the interpreter that has onnxruntime (default: .venv of `make test`, else python3).
# Exit code 3: not possible on this machine.
set -euo pipefail

directory=$1
venv=$(cd "$(dirname "$0")/../.." && pwd)/.venv/bin/python
[[ -x $venv ]] || venv=python3
python=${PYTHON:-$venv}
suite=trixie # the first with libonnxruntime-dev
packages=(libonnxruntime-dev nlohmann-json3-dev libmd-dev)

cannot() {
    echo "$1" >&2
    exit 3
}

# The library is a link, which another version of the wheel breaks.
if [[ -e $directory/complete && -e $directory/usr/lib/libonnxruntime.so ]]; then exit 0; fi
for tool in apt-get dpkg; do
    command -v $tool >/dev/null || cannot "there is no $tool to fetch ONNX Runtime's headers with"
done
library=$("$python" - <<'PY'
import importlib.util, pathlib
spec = importlib.util.find_spec("onnxruntime")
found = spec and sorted((pathlib.Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"))
print(found[-1] if found else "")
PY
)
[[ -n $library ]] || cannot "$python has no onnxruntime whose library could be used"

mkdir -p "$directory"/apt/{lists,archives}/partial
apt=$(cd "$directory/apt" && pwd)
touch "$apt/status"
eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
"$python" "$(dirname "$0")/apt_sources.py" "$suite" "${list:-}" "${parts:-}" >"$apt/$suite.sources"
# Lists of packages of its own: nothing on the system changes, and no root is needed.
private=(-q -o "Dir::Etc::sourcelist=$apt/$suite.sources" -o Dir::Etc::sourceparts=-
    -o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status"
    -o "Dir::Cache::archives=$apt/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o APT::Sandbox::User=)
download() { # from the suites in use here, else from the other suite of the same mirrors
    apt-get -q -o APT::Sandbox::User= download "${packages[@]}" && return
    [[ -s $suite.sources ]] || {
        echo "no mirror of this distribution's main suite is among apt's sources"
        return 1
    }
    apt-get "${private[@]}" update && apt-get "${private[@]}" download "${packages[@]}"
}
(cd "$apt" && rm -f ./*.deb && download >log 2>&1) ||
    cannot "the packages ${packages[*]} cannot be fetched here nor from Debian $suite: see $apt/log"
for package in "$apt"/*.deb; do dpkg -x "$package" "$directory"; done

# The wheel's library lacks the names that linkers and loaders look for.
ln -sf "$library" "$directory/usr/lib/libonnxruntime.so"
ln -sf "$library" "$directory/usr/lib/libonnxruntime.so.1"
touch "$directory/complete"
