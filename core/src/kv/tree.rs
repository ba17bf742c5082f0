//! A persistent ordered map: a B+ tree whose nodes are shared between clones until one of them writes.
//!
//! A clone costs one reference count. A write copies the nodes on its path that a clone still holds, and no others. Entries that come
//! in order leave full nodes behind ([`Tree::insert`] splits at the right edge, [`Sorted`] builds bottom up), so a state read back
//! takes the memory of its entries and little more.
//!
//! Invariants: keys ascend strictly; all leaves are at the same depth; no node is empty but the root of an empty tree; a node of
//! fewer than [`FEW`] entries after a removal has no neighbour with which it would fit into one. The key beside a child is at most
//! the child's first and above everything to its left; a branch's first is never looked at.
//! Source: Bayer and McCreight, "Organization and Maintenance of Large Ordered Indices", 1972, as a B+ tree with path copying.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Bound;
use std::slice;
use std::sync::Arc;

/// Entries of a leaf and children of a branch, at most. A write after a clone copies this much a level.
const FANOUT: usize = 32;
/// A node that a removal leaves with fewer is merged with a neighbour where they fit together.
const FEW: usize = FANOUT / 4;
/// Room that a growing node takes at first.
const ROOM: usize = 4;

/// See the module.
#[derive(Clone)]
pub(super) struct Tree<K, V> {
    root: Link<K, V>,
    len: usize,
}

type Link<K, V> = Arc<Node<K, V>>;
/// A node's new right neighbour, with the key that goes beside it.
type Split<K, V> = Option<(K, Link<K, V>)>;

#[derive(Clone)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    Branch(Vec<(K, Link<K, V>)>),
}

impl<K: Ord + Clone, V: Clone> Tree<K, V> {
    /// How many entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The value of a key.
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Leaf(entries) => {
                    return find(entries, key).ok().map(|at| &entries[at].1);
                }
                Node::Branch(children) => node = &children[child_of(children, key)].1,
            }
        }
    }

    /// The first entry.
    pub(super) fn first(&self) -> Option<(&K, &V)> {
        self.iter_from(Bound::<&K>::Unbounded).next()
    }

    /// The last entry at or before `key`.
    pub(super) fn at_or_before<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (mut node, mut left) = (&self.root, None);
        loop {
            match &**node {
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    left = at.checked_sub(1).map(|at| &children[at].1).or(left);
                    node = &children[at].1;
                }
                Node::Leaf(entries) => {
                    let end = entries.partition_point(|(k, _)| k.borrow() <= key);
                    return match end.checked_sub(1) {
                        Some(at) => Some((&entries[at].0, &entries[at].1)),
                        None => left.and_then(|left| last(left)),
                    };
                }
            }
        }
    }

    /// Entries in order, from a bound on.
    pub(super) fn iter_from<Q: Ord + ?Sized>(&self, start: Bound<&Q>) -> Iter<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let mut above = Vec::new();
        let mut node = &self.root;
        loop {
            match &**node {
                Node::Branch(children) => {
                    let at = match start {
                        Bound::Unbounded => 0,
                        Bound::Included(key) | Bound::Excluded(key) => child_of(children, key),
                    };
                    above.push(children[at + 1..].iter());
                    node = &children[at].1;
                }
                Node::Leaf(entries) => {
                    let at = match start {
                        Bound::Unbounded => 0,
                        Bound::Included(key) => entries.partition_point(|(k, _)| k.borrow() < key),
                        Bound::Excluded(key) => entries.partition_point(|(k, _)| k.borrow() <= key),
                    };
                    return Iter { leaf: entries[at..].iter(), above };
                }
            }
        }
    }

    /// All entries, in order, of the tree as it is now.
    pub(super) fn into_entries(self) -> Entries<K, V> {
        Entries { leaf: None, place: 0, rest: vec![self.root] }
    }

    /// Sets a key's value; the one before.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (old, split) = insert(&mut self.root, key, value, true);
        if let Some((bound, right)) = split {
            let left = std::mem::replace(&mut self.root, Arc::new(Node::Leaf(Vec::new())));
            self.root = Arc::new(Node::Branch(vec![(bound.clone(), left), (bound, right)]));
        }
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes a key out; its value.
    pub(super) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Nothing is copied for a key that is not there.
        self.get(key)?;
        let old = remove(&mut self.root, key);
        while let Node::Branch(children) = &*self.root {
            match children.as_slice() {
                [] => self.root = Arc::new(Node::Leaf(Vec::new())),
                [(_, only)] => self.root = only.clone(),
                _ => break,
            }
        }
        self.len -= 1;
        old
    }
}

impl<K, V> Default for Tree<K, V> {
    fn default() -> Self {
        Tree { root: Arc::new(Node::Leaf(Vec::new())), len: 0 }
    }
}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for Tree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter_from(Bound::<&K>::Unbounded)).finish()
    }
}

/// Entries in order.
pub(super) struct Iter<'a, K, V> {
    leaf: slice::Iter<'a, (K, V)>,
    /// What follows on each level, the root's first.
    above: Vec<slice::Iter<'a, (K, Link<K, V>)>>,
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.leaf.next() {
                return Some((key, value));
            }
            match self.above.last_mut()?.next() {
                None => {
                    self.above.pop();
                }
                Some((_, child)) => self.descend(child),
            }
        }
    }
}

impl<'a, K, V> Iter<'a, K, V> {
    fn descend(&mut self, mut node: &'a Node<K, V>) {
        loop {
            match node {
                Node::Leaf(entries) => {
                    self.leaf = entries.iter();
                    return;
                }
                Node::Branch(children) => {
                    let mut rest = children.iter();
                    let Some((_, first)) = rest.next() else { return };
                    self.above.push(rest);
                    node = first;
                }
            }
        }
    }
}

/// Entries in order, of a tree of one's own. What was passed is let go of at once: a tree that this one was cloned from copies less, and
/// there is little to clear away in the end.
#[derive(Clone)]
pub(super) struct Entries<K, V> {
    /// The leaf being read, and the next place in it.
    leaf: Option<Link<K, V>>,
    place: usize,
    /// What follows, the next node last.
    rest: Vec<Link<K, V>>,
}

impl<K: Clone, V: Clone> Iterator for Entries<K, V> {
    type Item = (K, V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(Node::Leaf(entries)) = self.leaf.as_deref()
                && let Some(entry) = entries.get(self.place)
            {
                self.place += 1;
                return Some(entry.clone());
            }
            self.leaf = None;
            let node = self.rest.pop()?;
            match &*node {
                Node::Branch(children) => {
                    self.rest.extend(children.iter().rev().map(|(_, child)| child.clone()));
                }
                Node::Leaf(_) => (self.leaf, self.place) = (Some(node), 0),
            }
        }
    }
}

impl<K, V> fmt::Debug for Entries<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entries").field("nodes", &self.rest.len()).finish_non_exhaustive()
    }
}

/// A tree under construction from entries in ascending order, in which the caller sees to it that they are.
pub(super) struct Sorted<K, V> {
    leaf: Vec<(K, V)>,
    /// Nodes that have no parent yet, by height.
    levels: Vec<Vec<(K, Link<K, V>)>>,
    len: usize,
}

impl<K: Ord + Clone, V: Clone> Sorted<K, V> {
    /// Adds the next entry.
    pub(super) fn push(&mut self, key: K, value: V) {
        if self.leaf.len() == FANOUT {
            self.seal_leaf();
        }
        if self.leaf.is_empty() {
            self.leaf.reserve_exact(FANOUT);
        }
        self.leaf.push((key, value));
        self.len += 1;
    }

    /// The tree.
    pub(super) fn finish(mut self) -> Tree<K, V> {
        let len = self.len;
        if !self.leaf.is_empty() {
            self.seal_leaf();
        }
        let mut height = 0;
        while height < self.levels.len() {
            let level = std::mem::take(&mut self.levels[height]);
            height += 1;
            match <[_; 1]>::try_from(level) {
                Ok([(_, root)]) if height == self.levels.len() => return Tree { root, len },
                Ok([only]) => self.seal(height, vec![only]),
                Err(level) => self.seal(height, level),
            }
        }
        Tree::default()
    }

    fn seal_leaf(&mut self) {
        let leaf = std::mem::take(&mut self.leaf);
        let bound = leaf[0].0.clone();
        self.add(0, (bound, Arc::new(Node::Leaf(leaf))));
    }

    /// Makes a branch of `children`, a node of the level `height`.
    fn seal(&mut self, height: usize, children: Vec<(K, Link<K, V>)>) {
        let bound = children[0].0.clone();
        self.add(height, (bound, Arc::new(Node::Branch(children))));
    }

    fn add(&mut self, height: usize, node: (K, Link<K, V>)) {
        if height == self.levels.len() {
            self.levels.push(Vec::new());
        }
        if self.levels[height].len() == FANOUT {
            let full = std::mem::take(&mut self.levels[height]);
            self.seal(height + 1, full);
        }
        self.levels[height].push(node);
    }
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Sorted { leaf: Vec::new(), levels: Vec::new(), len: 0 }
    }
}

impl<K, V> fmt::Debug for Sorted<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sorted").field("len", &self.len).finish_non_exhaustive()
    }
}

/// Where a key is, or would be.
fn find<K: Borrow<Q>, V, Q: Ord + ?Sized>(entries: &[(K, V)], key: &Q) -> Result<usize, usize> {
    entries.binary_search_by(|(k, _)| k.borrow().cmp(key))
}

/// The child that holds a key, if any does.
fn child_of<K: Borrow<Q>, C, Q: Ord + ?Sized>(children: &[(K, C)], key: &Q) -> usize {
    children[1..].partition_point(|(bound, _)| bound.borrow() <= key)
}

fn last<K, V>(mut node: &Link<K, V>) -> Option<(&K, &V)> {
    loop {
        match &**node {
            Node::Leaf(entries) => return entries.last().map(|(key, value)| (key, value)),
            Node::Branch(children) => node = &children.last()?.1,
        }
    }
}

/// `edge`: nothing of the tree lies to the right of this node.
fn insert<K: Ord + Clone, V: Clone>(
    node: &mut Link<K, V>,
    key: K,
    value: V,
    edge: bool,
) -> (Option<V>, Split<K, V>) {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => match find(entries, &key) {
            Ok(at) => (Some(std::mem::replace(&mut entries[at].1, value)), None),
            Err(at) => {
                let right = place(entries, at, (key, value), edge);
                (None, right.map(|right| (right[0].0.clone(), Arc::new(Node::Leaf(right)))))
            }
        },
        Node::Branch(children) => {
            let at = child_of(children, &key);
            let edge = edge && at + 1 == children.len();
            let (old, split) = insert(&mut children[at].1, key, value, edge);
            let right = split.and_then(|split| place(children, at + 1, split, edge));
            (old, right.map(|right| (right[0].0.clone(), Arc::new(Node::Branch(right)))))
        }
    }
}

/// Puts an item into a node's place `at`; what goes to a new right neighbour where there is no room. At the right edge of the tree, where
/// more is likely to follow, the node stays full.
fn place<T>(items: &mut Vec<T>, at: usize, item: T, edge: bool) -> Option<Vec<T>> {
    if items.len() < FANOUT {
        if items.len() == items.capacity() {
            items.reserve_exact(items.len().max(ROOM).min(FANOUT - items.len()));
        }
        items.insert(at, item);
        return None;
    }
    if edge && at == FANOUT {
        let mut right = Vec::with_capacity(ROOM);
        right.push(item);
        return Some(right);
    }
    let mut right = items.split_off(FANOUT / 2);
    match at.checked_sub(items.len()) {
        Some(at) => right.insert(at, item),
        None => items.insert(at, item),
    }
    Some(right)
}

fn remove<K: Ord + Clone + Borrow<Q>, V: Clone, Q: Ord + ?Sized>(
    node: &mut Link<K, V>,
    key: &Q,
) -> Option<V> {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => find(entries, key).ok().map(|at| entries.remove(at).1),
        Node::Branch(children) => {
            let at = child_of(children, key);
            let old = remove(&mut children[at].1, key);
            match children[at].1.len() {
                0 => {
                    children.remove(at);
                }
                len if len < FEW => merge_around(children, at),
                _ => {}
            }
            old
        }
    }
}

/// Merges the child at `at` with a neighbour, where both fit into one.
fn merge_around<K: Clone, V: Clone>(children: &mut Vec<(K, Link<K, V>)>, at: usize) {
    let fits = |left: usize| {
        children
            .get(left + 1)
            .is_some_and(|(_, right)| children[left].1.len() + right.len() <= FANOUT)
    };
    let Some(left) = [at.checked_sub(1), Some(at)].into_iter().flatten().find(|left| fits(*left))
    else {
        return;
    };
    let (bound, right) = children.remove(left + 1);
    match (Arc::make_mut(&mut children[left].1), Arc::unwrap_or_clone(right)) {
        (Node::Leaf(left), Node::Leaf(right)) => append(left, right),
        (Node::Branch(left), Node::Branch(mut right)) => {
            right[0].0 = bound;
            append(left, right);
        }
        _ => unreachable!("all leaves are at the same depth"),
    }
}

/// Takes no more room than there are items.
fn append<T>(left: &mut Vec<T>, right: Vec<T>) {
    left.reserve_exact(right.len());
    left.extend(right);
}

impl<K, V> Node<K, V> {
    fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Branch(children) => children.len(),
        }
    }
}

#[cfg(test)]
mod tests;
