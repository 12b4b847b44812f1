use proptest::prelude::*;

use super::*;

type Members = Vec<(u8, u32)>;

/// How many lists lead to each member for every set of failed members, by place in `members`.
fn loads(slots: &Slots, members: &Members) -> Vec<[u32; MAX_MEMBERS]> {
    let mut loads = vec![[0; MAX_MEMBERS]; 1 << members.len()];
    for list in slots.lists() {
        let mut before = 0;
        for number in list.members() {
            let member = members.iter().position(|member| member.0 == number);
            let member =
                member.unwrap_or_else(|| panic!("{list:?} names {number}, no member of {members:?}"));
            loads[before][member] += 1;
            before |= 1 << member;
        }
        assert_eq!(before, loads.len() - 1, "{list:?} names every member of {members:?}");
    }
    // The sum over all subsets: the zeta transform.
    for member in 0..members.len() {
        for set in (0..loads.len()).filter(|set| set >> member & 1 == 1) {
            let without = loads[set ^ (1 << member)];
            for (load, more) in loads[set].iter_mut().zip(without) {
                *load += more;
            }
        }
    }
    loads
}

/// Largest load over its share, by number of failed members, for all sets of that size; and, in slots, the largest
/// deviation from the share either way.
fn worst(slots: &Slots, members: &Members) -> Vec<(f64, f64)> {
    let mut worst = vec![(0f64, 0f64); members.len()];
    for (set, loads) in loads(slots, members).iter().enumerate().rev().skip(1) {
        let alive = || (0..members.len()).filter(|member| set >> member & 1 == 0);
        let total: f64 = alive().map(|member| f64::from(members[member].1)).sum();
        let worst = &mut worst[set.count_ones() as usize];
        for member in alive() {
            let share = SLOTS as f64 * f64::from(members[member].1) / total;
            worst.0 = worst.0.max(f64::from(loads[member]) / share);
            worst.1 = worst.1.max((f64::from(loads[member]) - share).abs());
        }
    }
    worst
}

/// The bounds of members of equal weight.
fn assert_even(slots: &Slots, members: &Members) -> Vec<(f64, f64)> {
    let shares = slots.shares();
    let first = members.iter().map(|member| shares[usize::from(member.0)]);
    let (most, least) = (first.clone().max().unwrap(), first.min().unwrap());
    assert!(most - least <= 1, "{most} and {least} slots, all of {members:?} up");
    let worst = worst(slots, members);
    for (lost, &(ratio, _)) in worst.iter().enumerate() {
        let bound = [1.01, 1.01, 1.03, 1.05][lost.min(3)];
        assert!(ratio <= bound, "{ratio} times the average with {lost} of {members:?} lost");
    }
    worst
}

fn equal(numbers: impl IntoIterator<Item = u8>) -> Members {
    numbers.into_iter().map(|number| (number, 1000)).collect()
}

fn moved(before: &Slots, after: &Slots) -> usize {
    before.lists().iter().zip(after.lists()).filter(|(before, after)| before.first() != after.first()).count()
}

/// Adds or removes one member as `choice` selects, and checks all invariants.
fn step(slots: &mut Slots, members: &mut Members, choice: u32) -> f64 {
    let grow = members.len() < 3 || (members.len() < MAX_MEMBERS && choice.is_multiple_of(2));
    let numbers: MemberSet = members.iter().map(|member| member.0).collect();
    if grow {
        let number = slots.free_number(numbers).expect("a free number, after a complete rebuild");
        members.insert(choice as usize / 2 % (members.len() + 1), (number, 1000));
    } else {
        members.remove(choice as usize / 2 % members.len());
    }
    let largest = members.len().max(numbers.len() as usize) as f64;
    let new = slots.rebuild(members);
    let share = moved(slots, &new) as f64 / SLOTS as f64;
    assert!(share <= 1.0 / largest + 0.01, "{share} of the slots moved: {numbers:?} to {members:?}");
    assert_even(&new, members);
    assert!(new.rebuild(members) == new, "a rebuild with nothing changed changes nothing: {members:?}");
    *slots = new;
    share - 1.0 / largest
}

#[test]
fn equal_members_are_balanced_for_every_failed_set() {
    println!("members, then the largest load over the average with 0, 1, 2 … lost");
    for count in 2..=MAX_MEMBERS as u8 {
        let members = equal(0..count);
        let worst = assert_even(&Slots::new().rebuild(&members), &members);
        println!("{count:2} {}", worst.iter().map(|w| format!(" {:.4}", w.0)).collect::<String>());
    }
}

#[test]
fn members_come_and_go_up_to_sixteen() {
    let (mut slots, mut members) = (Slots::new().rebuild(&equal(0..13)), equal(0..13));
    let mut random = 1u64;
    let mut most = f64::MIN;
    for _ in 0..6 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        most = most.max(step(&mut slots, &mut members, (random >> 33) as u32));
    }
    println!("moved at most 1/N {:+.2} %", 100.0 * most);
}

#[test]
fn flows_stay_where_they_are_when_failed_member_leaves() {
    let members = equal(0..8);
    let before = Slots::new().rebuild(&members);
    let after = before.rebuild(&equal(1..8));
    let of_the_lost = before.lists().iter().zip(after.lists()).filter(|(before, _)| before.first() == 0);
    let stayed = of_the_lost.clone().filter(|(before, after)| before.rest().first() == after.first()).count();
    assert!(stayed * 100 >= of_the_lost.count() * 97, "only {stayed} stayed");
}

#[test]
fn number_is_free_when_neither_member_nor_list_has_it() {
    let slots = Slots::new();
    assert_eq!(slots.free_number(MemberSet::EMPTY), Some(0));
    let slots = slots.rebuild(&equal([0, 1, 2]));
    // Number 1 has left, and the daemon was killed before it rewrote the lists.
    assert_eq!(slots.free_number([0, 2].into_iter().collect()), Some(3));
    let slots = slots.rebuild(&equal([0, 2]));
    assert_eq!(slots.free_number([0, 2].into_iter().collect()), Some(1));
    let full = Slots::new().rebuild(&equal(0..16));
    assert_eq!(full.free_number((0..16).collect()), None);
}

#[test]
fn groups_of_one_and_of_none() {
    let one = Slots::new().rebuild(&equal([5]));
    assert!(one.lists().iter().all(|&list| list == Preference::new(&[5])));
    assert_eq!(one.shares()[5], SLOTS as u32);
    assert!(one.rebuild(&[]) == Slots::new());
}

fn weights() -> impl Strategy<Value = Members> {
    let weight = prop_oneof![Just(100u32), Just(1000), Just(2500), Just(10_000), Just(40_000), 1..400_000u32];
    proptest::collection::vec(weight, 1..=10)
        .prop_map(|weights| weights.into_iter().enumerate().map(|(n, weight)| (n as u8, weight)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_sequence_of_joins_and_leaves_keeps_the_bounds(
        count in 2..=9u8, steps in proptest::collection::vec(any::<u32>(), 1..12),
    ) {
        let mut members = equal(0..count);
        let mut slots = Slots::new().rebuild(&members);
        for choice in steps {
            step(&mut slots, &mut members, choice);
        }
    }

    #[test]
    fn kill_between_two_writes_leaves_valid_lists(
        count in 2..=9u8, grow: bool, written in 0..=SLOTS, scattered: Option<u64>,
    ) {
        let old_members = equal(0..count);
        let new_members = if grow { equal(0..=count) } else { equal(1..count) };
        let old = Slots::new().rebuild(&old_members);
        let new = old.rebuild(&new_members);
        let mut lists = old.to_lists();
        for slot in 0..SLOTS {
            // A prefix of the writes, or any part of them.
            let done = match scattered {
                None => slot < written,
                Some(seed) => mix(seed.rotate_left(slot as u32 % 64) ^ slot as u64).is_multiple_of(2),
            };
            if done {
                lists[slot] = new.lists()[slot];
            }
        }
        let present = (0..=count).filter(|&number| grow || number < count).collect::<MemberSet>();
        let stayed: Members = old_members.iter().filter(|old| new_members.contains(old)).copied().collect();
        for list in lists.iter() {
            prop_assert!(list.members().all(|number| present.has(number)));
            for &(number, _) in &stayed {
                prop_assert_eq!(list.first_in(MemberSet::of(number)), Some(number));
            }
        }
        let half = Slots::from(lists);
        for members in [&old_members, &new_members] {
            let whole = half.rebuild(members);
            assert_even(&whole, members);
            let share = moved(&half, &whole) as f64 / SLOTS as f64;
            prop_assert!(share <= 1.0 / f64::from(count) + 0.01, "{} moved", share);
        }
    }

    #[test]
    fn any_lists_are_rebuilt_within_the_bounds(
        count in 2..=9u8, words in proptest::collection::vec(any::<u64>(), 1..50),
    ) {
        let mut lists = Slots::new().to_lists();
        for (slot, list) in lists.iter_mut().enumerate() {
            *list = Preference::from_nibbles(words[slot % words.len()]);
        }
        let members = equal((0..count).map(|number| 15 - number));
        assert_even(&Slots::from(lists).rebuild(&members), &members);
    }

    /// While all are up, shares follow weights to the slot; for any failed set, within 2 % of the slots.
    #[test]
    fn weights_are_kept(members in weights(), to in any::<prop::sample::Index>(), weight in 1..400_000u32) {
        let slots = Slots::new().rebuild(&members);
        let mut changed = members.clone();
        changed[to.index(members.len())].1 = weight;
        let again = slots.rebuild(&changed);
        for (slots, members) in [(&slots, &members), (&again, &changed)] {
            let worst = worst(slots, members);
            prop_assert!(worst[0].1 < 1.0, "{} slots off, all up: {:?}", worst[0].1, members);
            for (lost, &(_, slots_off)) in worst.iter().enumerate() {
                prop_assert!(slots_off <= 0.02 * SLOTS as f64, "{lost} lost: {slots_off} slots off: {:?}", members);
            }
        }
    }
}

/// 32 KiB for each group.
#[test]
fn equal_lists_share_memory_while_a_group_has_them() {
    let members = |weight| [(0, weight), (3, 1), (7, 1)];
    let one = Slots::new().rebuild(&members(2));
    let same = Slots::new().rebuild(&members(2));
    let other = Slots::new().rebuild(&members(3));
    assert!(Arc::ptr_eq(&one.0, &same.0) && !Arc::ptr_eq(&one.0, &other.0));
    let known = |lists: &[Preference; SLOTS]| {
        let all = ALL.lock().unwrap();
        all.iter().filter_map(Weak::upgrade).filter(|known| **known == *lists).count()
    };
    let lists = one.to_lists();
    assert_eq!(known(&lists), 1);
    drop((one, same));
    assert_eq!(known(&lists), 0);
}
