#!/usr/bin/env bash
# demo.sh - installs what is missing, builds, and shows the main job on a real
# model. Leaves no process running; what it fetched stays in the cache.
. "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"

install_packages "${build_packages[@]}"
setup_sample
setup_build build || die "the build failed"
exec python3 "$root/scripts/demo.py" "$models" "$sample_name"
