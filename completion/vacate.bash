# vacate.bash - completion for bash. Commands and options are what `vacate`
# itself says in its --help; names of models come from a running server.

_vacate_commands()
{
	vacate --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p'
}

_vacate_options()
{
	vacate "$1" --help 2>/dev/null | sed -n 's/^  \(--[a-z-]*\).*/\1/p'
}

# Does that option take a value?
_vacate_takes_value()
{
	vacate "$1" --help 2>/dev/null | grep -q -- "^  $2 [A-Z]"
}

# Names that a running server knows. A silent server must not hold up typing,
# and compgen expands its words: a name that a shell would act on is left out.
_vacate_models()
{
	vacate list --json --timeout 1 ${1:+--server "$1"} 2>/dev/null |
		grep -o '"name": *"[A-Za-z0-9._/-]*"' | sed 's/^"name": *"//; s/"$//'
}

# Processes: those that have CUDA open, and those on record, which may be parked; to be
# resumed the latter alone, where there are any. Read from files: neither NVML nor a
# server is waited for.
_vacate_pids()
{
	local file of="vacate-hold-$UID" records=() pids=

	for file in "${VACATE_HOLD_DIR:-/run/lock/$of}"/*.* "${VACATE_HOLD_DIR:-/tmp/$of}"/*.*; do
		file=${file##*/}
		[[ $file =~ ^[0-9]+\.[0-9]+$ && -d /proc/${file#*.} ]] && records+=("${file#*.}")
	done
	if [[ $1 != resume || ${#records[@]} == 0 ]]; then
		pids=$(find /proc/[0-9]*/fd -maxdepth 1 \( -lname /dev/nvidia-uvm -o -lname /dev/dxg \) \
			2>/dev/null | cut -d/ -f3)
	fi
	printf '%s\n' "${records[@]}" $pids | sort -un
}

# Values that an option may have.
_vacate_values()
{
	local word=$2

	case $1 in
	--models) COMPREPLY=($(compgen -d -- "$word")) ;;
	--allow-no-key | --metrics-open) COMPREPLY=($(compgen -W "yes no" -- "$word")) ;;
	--journal | --config | --api-key-file) COMPREPLY=($(compgen -f -- "$word")) ;;
	--device) COMPREPLY=($(compgen -W "auto cpu cuda:0" -- "$word")) ;;
	--backend) COMPREPLY=($(compgen -W "cpu reference" -- "$word")) ;;
	--user) COMPREPLY=($(compgen -u -- "$word")) ;;
	--model) COMPREPLY=($(compgen -W "$(_vacate_models)" -- "$word")) ;;
	--sandbox) COMPREPLY=($(compgen -W "auto require off" -- "$word")) ;;
	--log-level) COMPREPLY=($(compgen -W "error warn info debug" -- "$word")) ;;
	esac
}

# The words up to the cursor. bash breaks them at ':' and '=' as well as at blanks:
# what belongs together (http://127.0.0.1:8321, --option=value) is one word again.
_vacate_split()
{
	local word glued=

	words=()
	for word in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
		if ((${#words[@]} > 0)) && [[ $glued || $word == [:=] ]]; then
			words[${#words[@]} - 1]+=$word
		else
			words+=("$word")
		fi
		glued=
		[[ $word == [:=] ]] && glued=yes
	done
}

# check [FILE], or show with the options of serve.
_vacate_config()
{
	local word=$1 previous=$2 what=${words[2]}

	if ((${#words[@]} == 3)); then
		COMPREPLY=($(compgen -W "check show --help" -- "$word"))
	elif [[ $what == show && $previous == --* ]] && _vacate_takes_value serve "$previous"; then
		_vacate_values "$previous" "$word"
	elif [[ $what == show ]]; then
		COMPREPLY=($(compgen -W "--json $(_vacate_options serve)" -- "$word"))
	elif [[ $what == check && $word == -* ]]; then
		COMPREPLY=($(compgen -W "--json --help" -- "$word"))
	elif [[ $what == check ]]; then
		COMPREPLY=($(compgen -f -- "$word"))
	fi
}

_vacate()
{
	local words word previous command server= i last

	COMPREPLY=()
	_vacate_split
	last=$((${#words[@]} - 1))
	word=${words[last]} previous=${words[last - 1]} command=${words[1]}
	if [[ $word == --*=* ]]; then
		previous=${word%%=*} word=${word#*=}
	fi
	if ((last == 1)); then
		COMPREPLY=($(compgen -W "$(_vacate_commands) --help --version" -- "$word"))
		return
	fi
	if [[ $previous == --* ]] && _vacate_takes_value "$command" "$previous"; then
		_vacate_values "$previous" "$word"
		return
	fi
	if [[ $command == config ]]; then
		_vacate_config "$word" "$previous"
		return
	fi
	if [[ $word == -* ]]; then
		COMPREPLY=($(compgen -W "$(_vacate_options "$command")" -- "$word"))
		return
	fi
	for ((i = 2; i < last; i++)); do
		[[ ${words[i]} == --server ]] && server=${words[i + 1]}
		[[ ${words[i]} == --server=* ]] && server=${words[i]#*=}
	done
	case $command in
	plan | load | unload)
		COMPREPLY=($(compgen -W "$(_vacate_models "$server")" -- "$word"))
		;;
	run)
		COMPREPLY=($(compgen -W "$(_vacate_models "$server")" -- "$word")
			$(compgen -d -- "$word"))
		;;
	park | resume)
		COMPREPLY=($(compgen -W "$(_vacate_pids "$command") $(_vacate_models "$server")" -- "$word"))
		;;
	ps)
		COMPREPLY=($(compgen -W "$(_vacate_pids "$command")" -- "$word"))
		;;
	esac
}

complete -F _vacate vacate
