#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Says in one sentence what the set-up needs and this system lacks.
PYTHON=${PYTHON:-python3}
missing=""

lacks() {
    missing="${missing:+$missing, }$1"
}

for tool in g++ make perl; do
    command -v "$tool" >/dev/null 2>&1 || lacks "$tool"
done
if ! command -v "$PYTHON" >/dev/null 2>&1; then
    lacks "python3 (3.11 or newer)"
elif ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    lacks "python3 3.11 or newer ($PYTHON is $("$PYTHON" -V 2>&1))"
elif ! "$PYTHON" -c 'import venv, ensurepip' >/dev/null 2>&1; then
    lacks "Python's venv module (Debian: python3-venv)"
fi
if [ -n "$missing" ]; then
    echo "This system lacks what Addend is built with; please install: $missing." >&2
    exit 1
fi
