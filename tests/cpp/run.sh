#!/usr/bin/env bash
# Build runtime/cpp with its examples and run all its tests. The one command:
#
#     tests/cpp/run.sh                                     # library, examples, ctest, then pytest
#     HSRT_SANITIZE=address,undefined tests/cpp/run.sh     # ctest under sanitizers, in a folder of
#     HSRT_SANITIZE=thread tests/cpp/run.sh                # its own; pytest is left out (thread:
#                                                          # units and many_threads only)
#
# PYTHON names an interpreter with the `export` and `dev` extras (default: .venv of `make test`,
# else python3). ONNX Runtime's headers, nlohmann-json and libmd are fetched; where that is not
# possible, one sentence says so and nothing fails.
set -euo pipefail
repository=$(cd "$(dirname "$0")/../.." && pwd)
sanitize=${HSRT_SANITIZE:-}
build=${HSRT_BUILD_DIR:-$repository/build/cpp${sanitize:+-${sanitize//,/-}}}
venv=$repository/.venv/bin/python
[[ -x $venv ]] || venv=python3
export PYTHON=${PYTHON:-$venv}

skip() {
    echo "tests/cpp: skipped: $1"
    exit 0
}

for tool in cmake c++ cc; do
    command -v $tool >/dev/null || skip "there is no $tool; install a C++ compiler and CMake"
done
if ! reason=$("$repository/runtime/cpp/fetch_dependencies.sh" "$build/dependencies" 2>&1); then
    skip "ONNX Runtime's C headers are not at hand: $reason"
fi

# Synthetic bundles; without torch to make them, the embedded one.
bundle=$build/bundles/tiny
rich=$build/bundles/rich
if "$PYTHON" -c "import torch, onnx_ir" 2>/dev/null; then
    PYTHONPATH=$repository/tests \
        "$PYTHON" "$repository/tests/cpp/make_bundle.py" "$build/bundles" tiny rich
else
    bundle=$repository/engines/portraits
    rich=
fi

# Plain with the SHA-256 that CMake chooses, OpenSSL's where it is; under sanitizers with libmd's.
cmake -S "$repository/runtime/cpp" -B "$build" -DCMAKE_PREFIX_PATH="$build/dependencies/usr" \
    -DCMAKE_BUILD_TYPE="$([[ -n $sanitize ]] && echo RelWithDebInfo || echo Release)" \
    -DHSRT_SANITIZE="$sanitize" ${sanitize:+-DHSRT_WITH_OPENSSL=OFF} -DHSRT_BUILD_EXAMPLES=ON \
    -DHSRT_BUILD_TESTS=ON -DHSRT_TEST_BUNDLE="$bundle" -DHSRT_TEST_RICH_BUNDLE="$rich" \
    >"$build/configure.log" || {
    cat "$build/configure.log"
    exit 1
}
cmake --build "$build" --parallel "${HSRT_JOBS:-2}"
# ONNX Runtime is not instrumented: ThreadSanitizer cannot see how its own worker threads wait for
# each other. The sessions of many_threads have none, so that every report would be ours.
tests=.
fixed=() # gcc's ThreadSanitizer does not know all places where newer kernels put things
if [[ $sanitize == thread ]]; then
    tests='units|many_threads'
    setarch -R true 2>/dev/null && fixed=(setarch -R)
fi
(cd "$build" && "${fixed[@]}" ctest --output-on-failure -R "$tests")
if [[ -z $sanitize ]] && "$PYTHON" -c "import pytest, torch" 2>/dev/null; then
    HSRT_LIBRARY=$build/libhyperstyle_rt.so "$PYTHON" -m pytest -q -m "not slow" \
        "$repository/tests/cpp"
fi
