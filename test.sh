#!/usr/bin/env bash
# test.sh - installs what is missing, builds, and runs the tests.
#
#   ./test.sh                 all but the long ones; at most 15 minutes
#   ./test.sh unit            unit tests only (release build, gcc)
#   ./test.sh e2e [ARGS]      end-to-end tests only; ARGS go to pytest
#   ./test.sh sanitize        address, undefined-behaviour and thread sanitizers
#   ./test.sh soak            the long end-to-end tests
#   ./test.sh fuzz [SECONDS]  every fuzzer for so long (default 60)
#
# The last line says how many tests passed, failed and were skipped; the exit
# status is 0 only when none failed and at least one passed.
. "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"
cd "$root" || exit 1

test_packages=(clang clang-format curl groff-base libclang-rt-14-dev llvm)
passed=0 failed=0 skipped=0 took=0
# Most end-to-end tests wait for something: more at once than there are processors. Each
# process begins with a part of its own, so that files that compute run beside files that
# wait, and takes from the others when it is done.
at_once=(-n 6 --dist worksteal)

# add WHAT PASSED FAILED SKIPPED
add() {
	passed=$((passed + $2)) failed=$((failed + $3)) skipped=$((skipped + $4))
	printf '%-36s %5d passed %3d failed %3d skipped %5d s\n' "$1" "$2" "$3" "$4" "$took"
}

# check WHAT COMMAND...: counts as one test.
check() {
	if silently "$@"; then
		add "$1" 1 0 0
	else
		add "$1" 0 1 0
	fi
}

# build DIR [meson options]: no test when it works, a failed one when not.
build() {
	setup_build "$@" || { add "build $1" 0 1 0; return 1; }
}

# meson_tests WHAT DIR [options of meson test]
meson_tests() {
	local what=$1 dir=$2
	shift 2
	rm -f "$dir/meson-logs/testlog.json"
	# Its status is not asked: a crash, a time-out and a failure are in the log.
	VACATE_SAMPLE_MODEL=$sample silently "$what" meson test -C "$dir" --print-errorlogs "$@"
	if [ -f "$dir/meson-logs/testlog.json" ]; then
		# shellcheck disable=SC2046  # three numbers
		add "$what" $(python3 scripts/count_tests.py "$dir/meson-logs/testlog.json")
	else
		add "$what" 0 1 0
	fi
}

# pytest WHAT BUILD_DIR [arguments]
pytest() {
	local what=$1 dir=$2
	shift 2
	rm -f "$dir/e2e.xml"
	VACATE_BUILD=$root/$dir VACATE_SAMPLE=$sample silently "$what" \
		"$venv/bin/python" -m pytest -p no:cacheprovider -q --tb=short \
		--junitxml="$dir/e2e.xml" "$@"
	if [ -f "$dir/e2e.xml" ]; then
		# shellcheck disable=SC2046
		add "$what" $(python3 scripts/count_tests.py "$dir/e2e.xml")
	else
		add "$what" 0 1 0
	fi
}

c_files() {
	git ls-files '*.c' '*.h' 2>/dev/null || find include src tests bench examples -name '*.[ch]'
}
check_format() {
	c_files | xargs clang-format --dry-run -Werror
}

run_unit() {
	setup_sample
	build build && meson_tests "unit tests" build
}

run_e2e() {
	setup_sample
	setup_venv tests/e2e/requirements.txt
	build build || return
	# Those that measure run alone.
	if [ $# -gt 0 ]; then
		pytest "end-to-end tests" build -m "not soak" "$@"
	else
		pytest "end-to-end tests" build "${at_once[@]}" -m "not soak and not measured" tests/e2e
		pytest "end-to-end tests that measure" build -m "measured and not soak" tests/e2e
	fi
}

run_sanitize() {
	setup_sample
	setup_venv tests/e2e/requirements.txt
	# intercept_tls_get_addr=0: in its records of dynamic thread-local storage clang 14's
	# LeakSanitizer crashes ("Tracer caught signal 11") when some workers exit.
	export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:intercept_tls_get_addr=0
	export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
	export TSAN_OPTIONS=halt_on_error=0:second_deadlock_stack=1
	# Limits that only guard against hanging wait longer; see measure.patience.
	export VACATE_TEST_PATIENCE=5
	# The measured tests compare memory, which a sanitizer multiplies.
	if CC=clang build build-asan -Dbuildtype=debugoptimized -Db_lundef=false \
		-Db_sanitize=address,undefined; then
		meson_tests "unit tests, ASan and UBSan" build-asan
		pytest "end-to-end tests, ASan and UBSan" build-asan "${at_once[@]}" \
			-m "not soak and not measured and not installed" tests/e2e
	fi
	if CC=clang build build-tsan -Dbuildtype=debugoptimized -Db_lundef=false \
		-Db_sanitize=thread; then
		VACATE_TEST_BACKEND=reference pytest "worker and server, TSan" build-tsan -n 3 \
			-m "threads and not measured" tests/e2e
	fi
}

run_soak() {
	setup_sample
	setup_venv tests/e2e/requirements.txt
	build build && pytest "long end-to-end tests" build -m soak tests/e2e
}

# fuzz_one PROGRAM SECONDS: new inputs stay in build-fuzz, a crash fails.
fuzz_one() {
	local name=${1##*/fuzz_} found
	found=build-fuzz/found/$name
	mkdir -p "$found"
	"$1" -max_total_time="$2" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="build-fuzz/crash-$name-" "$found" "tests/fuzz/corpus/$name"
}

run_fuzz() {
	local seconds=${1:-60} program
	[[ $seconds =~ ^[0-9]+$ ]] || die "fuzz: '$seconds' is not a number of seconds"
	CC=clang build build-fuzz -Dbuildtype=debugoptimized -Db_lundef=false -Dfuzzers=true \
		-Dtests=false -Db_sanitize=address,undefined || return
	for program in build-fuzz/tests/fuzz/fuzz_*; do
		[ -f "$program" ] && [ -x "$program" ] || continue
		check "fuzz ${program##*/fuzz_}" fuzz_one "$program" "$seconds"
	done
}

run_all() {
	check "clang-format" check_format
	check "documents and pages" python3 scripts/check_docs.py
	run_unit
	run_e2e
	run_sanitize
	# The tests were built with it above.
	CC=clang build build-clang -Dtests=false && add "builds with clang" 1 0 0
}

what=${1:-all}
[ $# -gt 0 ] && shift
case $what in
all | unit | e2e | sanitize | soak | fuzz) ;;
-h | --help | help) sed -n '2,/^\./{/^#/s/^# \{0,1\}//p}' "$0"; exit ;;
*) die "unknown part '$what'; one of unit, e2e, sanitize, soak, fuzz, or none for all" ;;
esac
install_packages "${build_packages[@]}" "${test_packages[@]}"
"run_$what" "$@"

printf '%d passed, %d failed' "$passed" "$failed"
[ "$skipped" = 0 ] || printf ', %d skipped' "$skipped"
printf '\n'
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
