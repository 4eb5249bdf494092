#!/usr/bin/env bash
# carry.sh - gathers what runs on a machine that has neither our libraries nor a
# network into one folder: programs, modules, the shared libraries that they
# need (the C library's own aside), and the tests for GPUs.
#
#   scripts/carry.sh [FOLDER]      default: build/carry
#
# Everything in it finds the rest relative to itself. With VACATE_CARRY_WHEELS=3.12 the
# wheels of ipykernel for that Python of x86-64 come along (tests/gpu/hold kinds).
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
cd "$root" || exit 1
to=${1:-build/carry}
from=build-carry

# $ORIGIN is the loader's, not the shell's. The old kind of tag, since it also holds
# for what a library needs in turn.
[ -f "$from/build.ninja" ] ||
	meson setup "$from" -Dtests=false '-Dc_link_args=-Wl,--disable-new-dtags,-rpath,$ORIGIN/lib:$ORIGIN' >/dev/null ||
	die "meson does not set $from up"
ninja -C "$from" vacate vacate-worker vacate-gpud libvacate-cpu.so libvacate-cuda.so \
	bench/engine_bench bench/load_client tests/gpu/gpu_probe tests/gpu/libpause_cuda.so \
	tests/gpu/libbad_pointer.so >"$from/carry.log" || {
	tail -n 30 "$from/carry.log" >&2
	exit 1
}

rm -rf "$to"
mkdir -p "$to/lib" "$to/tests/gpu/shim" "$to/bench" || exit 1
cp "$from"/{vacate,vacate-worker,vacate-gpud,libvacate-cpu.so,libvacate-cuda.so} \
	"$from"/bench/{engine_bench,load_client} "$from"/tests/gpu/{gpu_probe,libpause_cuda.so} "$to/"
cp -L "$from/src/library/libvacate.so.0" "$to/lib/"
cp "$from/tests/gpu/libbad_pointer.so" "$to/tests/gpu/shim/libcuda.so.1"
cp tests/gpu/run tests/gpu/hold tests/gpu/see tests/gpu/*.py "$to/tests/gpu/" 2>/dev/null
cp -r src/engine/cuda/kernels "$to/tests/gpu/"
cp tests/gpu/kernels_check.cu tests/gpu/product_time.cu "$to/tests/gpu/"
cp -r scripts/measure.py scripts/harness.py "$to/tests/gpu/" 2>/dev/null
# The terminal of the part top: it is of Python alone, and does without its modules in C.
setup_venv tests/e2e/requirements.txt
mkdir -p "$to/tests/e2e" "$to/tests/gpu/site"
cp tests/e2e/terminal.py "$to/tests/e2e/"
for module in pyte wcwidth; do
	cp -r "$("$venv/bin/python" -c "import os, $module; print(os.path.dirname($module.__file__))")" \
		"$to/tests/gpu/site/" || die "$module, which shows what is on a terminal, is not there"
done
for terminfo in /etc/terminfo /lib/terminfo /usr/share/terminfo; do
	[ ! -f "$terminfo/x/xterm-256color" ] || install -D -m 644 "$terminfo/x/xterm-256color" \
		"$to/tests/gpu/site/terminfo/x/xterm-256color"
done
find "$to/tests/gpu/site" \( -name '*.so' -o -name __pycache__ \) -prune -exec rm -r {} +
# What they need beside the C library, which every system has.
for file in "$to"/{vacate,vacate-worker,vacate-gpud,engine_bench,gpu_probe} "$to"/*.so "$to"/lib/*; do
	ldd "$file" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }'
done | sort -u | grep -Ev '/(libc|libm|libdl|libpthread|librt|libvacate)\.' |
	while read -r library; do
		[ -e "$to/lib/$(basename "$library")" ] || cp -L "$library" "$to/lib/"
	done
strip --strip-debug "$to"/{vacate,vacate-worker,vacate-gpud,engine_bench,gpu_probe} "$to"/*.so "$to"/lib/*
if [ -n "${VACATE_CARRY_WHEELS:-}" ]; then
	python3 -m pip download -q --only-binary=:all: --python-version "$VACATE_CARRY_WHEELS" \
		--implementation cp --platform manylinux2014_x86_64 --platform manylinux_2_17_x86_64 \
		--platform manylinux_2_28_x86_64 -d "$to/wheels" ipykernel ||
		die "the wheels of ipykernel cannot be had"
fi
du -sh "$to"
