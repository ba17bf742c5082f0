//! The tree against a sorted map of the standard library, and its shape after every change.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Map = BTreeMap<u16, u32>;

/// One change, or a look.
#[derive(Clone, Debug)]
enum Step {
    /// Sets so many keys from one on, every so many.
    Insert {
        from: u16,
        count: u16,
        every: u16,
        descending: bool,
    },
    Remove {
        from: u16,
        count: u16,
        every: u16,
    },
    /// Keeps a clone, to be compared in the end.
    Clone,
    /// Builds the tree anew from its entries.
    Rebuild,
    Look {
        at: u16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let count = || prop_oneof![3 => Just(1u16), 1 => 1..1500u16];
    prop_oneof![
        4 => (0..4000u16, count(), 1..4u16, any::<bool>()).prop_map(
            |(from, count, every, descending)| Step::Insert { from, count, every, descending }
        ),
        4 => (0..4000u16, count(), 1..4u16)
            .prop_map(|(from, count, every)| Step::Remove { from, count, every }),
        1 => Just(Step::Clone),
        1 => Just(Step::Rebuild),
        2 => (0..6000u16).prop_map(|at| Step::Look { at }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn does_what_a_sorted_map_does_and_clones_stay_as_they_were(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let (mut tree, mut map) = (Tree::default(), Map::new());
        let mut clones: Vec<(Tree<u16, u32>, Map)> = Vec::new();
        let mut value = 0;
        for step in steps {
            match step {
                Step::Insert { from, count, every, descending } => {
                    let mut keys: Vec<u16> = (0..count).map(|n| from + n * every).collect();
                    if descending {
                        keys.reverse();
                    }
                    for key in keys {
                        value += 1;
                        prop_assert_eq!(tree.insert(key, value), map.insert(key, value));
                    }
                }
                Step::Remove { from, count, every } => {
                    for key in (0..count).map(|n| from + n * every) {
                        prop_assert_eq!(tree.remove(&key), map.remove(&key));
                    }
                }
                Step::Clone => clones.push((tree.clone(), map.clone())),
                Step::Rebuild => {
                    let mut sorted = Sorted::default();
                    map.iter().for_each(|(key, value)| sorted.push(*key, *value));
                    tree = sorted.finish();
                }
                Step::Look { at } => look(&tree, &map, at)?,
            }
            check(&tree);
            prop_assert_eq!(tree.len(), map.len());
        }
        clones.push((tree, map));
        for (tree, map) in clones {
            check(&tree);
            prop_assert!(tree.iter_from(Bound::<&u16>::Unbounded).eq(map.iter()));
            prop_assert!(tree.into_entries().eq(map));
        }
    }
}

fn look(tree: &Tree<u16, u32>, map: &Map, at: u16) -> Result<(), TestCaseError> {
    prop_assert_eq!(tree.get(&at), map.get(&at));
    prop_assert_eq!(tree.first(), map.first_key_value());
    prop_assert_eq!(tree.at_or_before(&at), map.range(..=at).next_back());
    for from in [Bound::Included(&at), Bound::Excluded(&at)] {
        let expected = map.range((from, Bound::Unbounded));
        prop_assert!(tree.iter_from(from).eq(expected), "from {:?}", from);
    }
    Ok(())
}

/// The invariants of the module's description that hold after any step.
fn check<K: Ord + Clone, V: Clone>(tree: &Tree<K, V>) {
    let mut depths = Vec::new();
    if tree.len() > 0 {
        check_node(&tree.root, None, None, 0, &mut depths);
        depths.dedup();
        assert_eq!(depths.len(), 1, "all leaves are at the same depth");
    }
    let keys: Vec<&K> = tree.iter_from(Bound::<&K>::Unbounded).map(|(key, _)| key).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "keys ascend strictly");
    assert_eq!(keys.len(), tree.len());
}

fn check_node<K: Ord, V>(
    node: &Node<K, V>,
    least: Option<&K>,
    below: Option<&K>,
    depth: usize,
    depths: &mut Vec<usize>,
) {
    assert!((1..=FANOUT).contains(&node.len()), "a node has {} entries", node.len());
    match node {
        Node::Leaf(entries) => {
            depths.push(depth);
            assert!(least.is_none_or(|least| *least <= entries[0].0));
            assert!(below.is_none_or(|below| entries[entries.len() - 1].0 < *below));
        }
        Node::Branch(children) => {
            for (at, (bound, child)) in children.iter().enumerate() {
                let least = if at == 0 { least } else { Some(bound) };
                let below = children.get(at + 1).map(|(bound, _)| bound).or(below);
                check_node(child, least, below, depth + 1, depths);
            }
        }
    }
}

#[test]
fn entries_in_order_fill_their_leaves() {
    let mut tree = Tree::default();
    for key in 0..10_000u32 {
        tree.insert(key, ());
    }
    let mut sorted = Sorted::default();
    (0..10_000u32).for_each(|key| sorted.push(key, ()));
    for tree in [tree, sorted.finish()] {
        assert_eq!(leaves(&tree.root), 10_000usize.div_ceil(FANOUT));
    }
}

#[test]
fn what_is_removed_frees_its_leaves() {
    let mut tree = Tree::default();
    for key in 0..10_000u32 {
        tree.insert(key, ());
    }
    for key in (0..10_000u32).filter(|key| key % 50 != 0) {
        tree.remove(&key);
    }
    check(&tree);
    assert!(leaves(&tree.root) <= 2 * 200usize.div_ceil(FANOUT) + 1, "{}", leaves(&tree.root));
}

#[test]
fn entries_that_were_passed_are_held_no_longer() {
    let mut tree = Tree::default();
    let values: Vec<Arc<u32>> = (0..10_000u32).map(Arc::new).collect();
    for (key, value) in values.iter().enumerate() {
        tree.insert(key, value.clone());
    }
    let mut entries = tree.clone().into_entries();
    assert_eq!(entries.nth(4_999).map(|(key, _)| key), Some(4_999));
    drop(tree);
    let held =
        |values: &[Arc<u32>]| values.iter().filter(|value| Arc::strong_count(value) > 1).count();
    assert!(held(&values[..5_000]) <= FANOUT, "at most the leaf being read");
    assert_eq!(held(&values[5_000..]), 5_000);
}

fn leaves<K, V>(node: &Node<K, V>) -> usize {
    match node {
        Node::Leaf(_) => 1,
        Node::Branch(children) => children.iter().map(|(_, child)| leaves(child)).sum(),
    }
}
