#!/bin/sh
# mlcube @VERSION@ reads machine-learning cubes and runs them. This file is a zip archive; these lines only choose the
# Python that runs it, `python3 mlcube.pyz` works too. MLCUBE_PYTHON names another Python.
# No variable of the caller is touched here, because the tasks inherit them.
case $0 in
*/*) set -- "$0" "$@" ;;
*)  # started as `sh mlcube.pyz`: the file is in the current directory, else on PATH
    mlcube_pyz_file=./$0
    mlcube_pyz_rest=${PATH-}:
    while [ ! -f "$mlcube_pyz_file" ] && [ -n "$mlcube_pyz_rest" ]; do
        mlcube_pyz_file=${mlcube_pyz_rest%%:*}
        mlcube_pyz_file=${mlcube_pyz_file:-.}/$0
        mlcube_pyz_rest=${mlcube_pyz_rest#*:}
    done
    set -- "$mlcube_pyz_file" "$@"
    ;;
esac
set -- '@START@' "$@"
if [ -n "${MLCUBE_PYTHON-}" ]; then
    [ ! -d "$MLCUBE_PYTHON" ] && command -v "$MLCUBE_PYTHON" >/dev/null 2>&1 && exec "$MLCUBE_PYTHON" -I -S -c "$@"
    printf '%s\n' "error: MLCUBE_PYTHON names '$MLCUBE_PYTHON', which is not a program that can be started" >&2
    exit 4
fi
command -v python3 >/dev/null 2>&1 && exec python3 -I -S -c "$@"
for mlcube_pyz_python in @NAMES@; do
    command -v "$mlcube_pyz_python" >/dev/null 2>&1 &&
        "$mlcube_pyz_python" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1 &&
        exec "$mlcube_pyz_python" -I -S -c "$@"
done
echo "error: mlcube needs Python 3.9 or newer and finds none on PATH; install one, or name it in MLCUBE_PYTHON" >&2
exit 4
