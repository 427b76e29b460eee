#!/bin/sh
# mlcube: platform local
set -eu

# make the implementation's directories
mkdir -p -- /cube/build </dev/null

# run the configure lines
(cd /cube && env -u PYTHONHOME -u PYTHONPATH -u VIRTUAL_ENV PYTHONUNBUFFERED=1 bash -c 'set -e
mlcube_root=$PWD
make -C src' mlcube </dev/null)
