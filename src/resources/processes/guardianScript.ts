/**
 * What the guardian does, for any POSIX shell: `sh -c SCRIPT NAME INSTANCE [CGROUP]`. It is told of each tree over its standard
 * input, `+GROUP START` and `-GROUP START`; `quit` lets it go, and an end of file without it means that the server has died.
 *
 * What must not fail is done by the shell itself. A hostile job may have left no room for another process: then the shell
 * cannot start `grep`, gives up, and is put in its own place once more, which takes none.
 */
export const GUARDIAN_SCRIPT = `
trap '' HUP INT QUIT TERM USR1 USR2
set -f
instance=$1 cgroup=$2 roots=\${TETHER_ROOTS:- } tries=\${TETHER_TRIES:-0}

note() {
  case $1 in
    +*) roots="$roots\${1#+}:$2 " ;;
    -*)
      root="\${1#-}:$2"
      case $roots in *" $root "*) roots="\${roots%%" $root "*} \${roots#*" $root "}" ;; esac
      ;;
    quit) exit 0 ;;
  esac
}

# Sets group and start to those of the process $1; false where there is none. Its name, in brackets, may hold anything.
look() {
  stat=
  while IFS= read -r line; do stat="$stat $line"; done <"/proc/$1/stat" || return 1
  set -- \${stat##*) }
  group=$3 start=\${20}
  [ -n "$start" ]
}

# A group's number is given to nobody else while somebody is in the group, so its leader may be gone. It must not be another.
end_groups() {
  [ -z "$cgroup" ] || echo 1 >"$cgroup/cgroup.kill"
  for root in $roots; do
    if look "\${root%:*}" && [ "$start" != "\${root#*:}" ]; then continue; fi
    kill -s KILL -- "-\${root%:*}"
  done
}

# False while there is a control group that cannot be removed yet.
remove_groups() {
  [ -d "$cgroup" ] || return 0
  echo 1 >"$cgroup/cgroup.kill"
  find "$cgroup" -depth -type d -exec rmdir {} ';'
  ! [ -d "$cgroup" ]
}

# False where somebody bore the marker. Killed with their groups, which are theirs alone: each tree began in a session of its own.
end_marked() {
  set +f
  found=$(grep -ls "TETHER_JOB=[A-Za-z0-9_:-]*/$instance-[0-9]" /proc/[0-9]*/environ)
  set -f
  for path in $found; do
    pid=\${path#/proc/} pid=\${pid%/environ}
    # 0 is what the group of a process is called that began outside of this pid namespace.
    look "$pid" && [ "$group" -gt 1 ] && kill -s KILL -- "-$group"
    kill -s KILL "$pid"
  done
  [ -z "$found" ]
}

[ "$tries" != 0 ] || echo ready
exec >/dev/null
while read -r word rest; do note "$word" "$rest"; done

again() {
  TETHER_ROOTS=$roots TETHER_TRIES=$((tries + 1))
  export TETHER_ROOTS TETHER_TRIES
  [ "$tries" -ge 2000 ] || exec "$TETHER_SHELL" -c "$TETHER_GUARDIAN" tether-guardian "$instance" "$cgroup"
}
trap again EXIT

end_groups
passes=0 clean=0
# Nobody waits for it, so it looks for half a second more: a process that becomes another one all the time is not in each look.
while [ "$clean" -lt 25 ] && [ "$passes" -lt 500 ]; do
  passes=$((passes + 1)) clean=$((clean + 1))
  remove_groups || clean=0
  end_marked || clean=0
  sleep 0.02
done
trap - EXIT
`
