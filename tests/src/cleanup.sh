# Cleans up after a lab. $1: the lab's directory. Standard input: a pipe that closes when the lab ends.
# Descriptor 3 holds the lock of the directory and has no other use.
trap '' HUP INT TERM PIPE
cat >/dev/null
directory=$1
cd "$directory" || exit 0
exec 2>>reaper.log

# True while the process exists, is not a zombie, and has start time $2 (if $2 is not empty).
running() {
	read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
	wanted=$2
	set -- ${stat##*) }
	[ "$1" != Z ] || return 1
	[ -z "$wanted" ] || [ "${20}" = "$wanted" ]
}

# Processes that may create pins must end before the pins are removed.
victims=
if [ -f processes ]; then
	while read -r pid start; do
		running "$pid" "$start" && victims="$victims $pid"
	done <processes
fi
if [ -f namespaces ]; then
	while read -r name; do
		for pid in $(ip netns pids "$name" 3>&-); do
			[ "$pid" = "$PPID" ] || victims="$victims $pid"
		done
	done <namespaces
fi
[ -z "$victims" ] || kill -KILL $victims
for pid in $victims; do
	tries=0
	while running "$pid" '' && [ $tries -lt 200 ]; do
		sleep 0.01
		tries=$((tries + 1))
	done
done

if [ -f cookies ]; then
	while read -r cookie; do
		case $cookie in
		'' | *[!0-9]*) ;;
		*) rm -rf /sys/fs/bpf/ipmp/v*/"$cookie" /run/ipmp/"$cookie" /run/ipmp/"$cookie".lock ;;
		esac
	done <cookies
fi
if [ -f namespaces ]; then
	while read -r name; do
		rm -rf /run/ipmp/"$name".*
		[ ! -e "/run/netns/$name" ] || ip netns del "$name" 3>&-
	done <namespaces
fi
cd /
rm -rf "$directory"
