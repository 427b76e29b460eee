#!/bin/sh
# Every box is built from its own directory alone, so each carries a copy of the sources in examples/mnist/build.
# Change them there, then run this; a test holds the copies equal.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
sources=$here/../../mnist/build
for box in docker baremetal singularity; do
    target=$here/$box/implementation/src
    rm -rf "$target"
    mkdir -p "$target/data"
    cp "$sources/mnist.py" "$sources/requirements.txt" "$target/"
    cp "$sources/data/README.md" "$sources/data/digits.csv.gz" "$target/data/"
done
