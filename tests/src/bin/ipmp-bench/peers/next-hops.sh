# next-hops ADDRESS GROUP-OPTIONS INTERFACE...: keeps the group of next hops 10 as the links of these interfaces are, whose next hops are
# 1, 2 and so on. The kernel removes a next hop that has lost its carrier, and never adds it again. After a change the address is
# announced from an interface that is left, so that neighbours do not send to the one that is not.
address=$1 options=$2
shift 2

# Reports each interface whose link has changed since the last call, and makes the group follow.
follow() {
	group= announcer= number=0 changed=$1
	shift
	for interface; do
		number=$((number + 1))
		eval "is_up=\$up_$number"
		if [ "$interface" = "$changed" ]; then
			[ "$is_up" = "$now" ] && return
			eval "up_$number=$now"
			is_up=$now
			if [ "$now" = yes ]; then
				ip nexthop replace id $number dev "$interface"
				echo "added $interface"
			else
				ip nexthop del id $number 2>/dev/null
				echo "removed $interface"
			fi
		fi
		[ "$is_up" = yes ] || continue
		group=$group${group:+/}$number
		announcer=${announcer:-$interface}
	done
	[ -n "$group" ] || return
	if [ "$now" = yes ]; then
		ip nexthop replace id 10 group $group $options
		ip route replace 192.168.178.0/24 nhid 10 src "$address"
	else
		arping -q -U -c 1 -w 1 -I "$announcer" "$address" &
	fi
}

number=0
for interface; do
	number=$((number + 1))
	eval "up_$number=yes"
done
echo watching
# "102: e1000g1@if102: <NO-CARRIER,BROADCAST,MULTICAST,UP> mtu 1500 ...", or "Deleted 102: ..."
ip -o monitor link | while read -r index name flags rest; do
	name=${name%:}
	case $flags in
	*NO-CARRIER*) now=no ;;
	*[,\<]UP[,\>]*) now=yes ;;
	*) now=no ;;
	esac
	follow "${name%@*}" "$@"
done
