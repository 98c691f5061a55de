//! Merging the lists of keys that nodes show, each in pages of its own. A node that shows what leads nowhere holds up
//! nobody: it is left out, and the others are enough as long as they are most of them.

use std::collections::{BTreeMap, VecDeque};

use prost::Message;
use quorate_types::limits::MAX_STORED_PER_TENANT;
use quorate_types::{KeyId, NodeId};
use quorate_wire::proto::v1::{KeyView, ListKeysReply};

/// Keys of one page at most, as the protocol says.
const KEYS_PER_PAGE: usize = 64;

/// Pages that a node may take beyond twice as many as most nodes took: it may have documents that others lack.
const PAGES_MORE: usize = 8;

/// For so many keys that verify a node may take another page.
const KEYS_FOR_A_PAGE: usize = 8;

/// One key that verifies is enough for a page of so many bytes.
const HEAVY_PAGE: usize = 1 << 20;

/// Pages of keys of which none counts any more: a node goes through all that it has stored.
const BARREN_PAGES: usize = MAX_STORED_PER_TENANT as usize / KEYS_PER_PAGE;

/// Pages of one node at most: no tenant has more keys.
const MAX_PAGES: usize = MAX_STORED_PER_TENANT as usize;

/// What nodes show of some keys.
pub(super) type Shown = BTreeMap<KeyId, Vec<(NodeId, Vec<KeyView>)>>;

/// How far a node has shown all that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    /// Up to this key; nothing yet where there is none.
    To(Option<KeyId>),
    /// To the end.
    End,
}

#[derive(Debug)]
struct Cursor {
    /// What was not merged yet, in the order of the ids.
    views: VecDeque<(KeyId, KeyView)>,
    reach: Reach,
    pages: usize,
    /// Those of [`HEAVY_PAGE`] and more.
    heavy: usize,
    /// Keys that it showed and that verify.
    verified: usize,
}

/// The lists of several nodes. Of each there is a page in memory.
#[derive(Debug)]
pub(super) struct Merge {
    cursors: BTreeMap<NodeId, Cursor>,
    /// Up to where all keys are merged.
    position: Reach,
    most: usize,
}

impl Merge {
    /// Of these nodes, of which `most` must be left at every place.
    pub(super) fn new(nodes: impl IntoIterator<Item = NodeId>, most: usize) -> Self {
        let cursor = || Cursor {
            views: VecDeque::new(),
            reach: Reach::To(None),
            pages: 0,
            heavy: 0,
            verified: 0,
        };
        let cursors = nodes.into_iter().map(|node| (node, cursor())).collect();
        Self { cursors, position: Reach::To(None), most }
    }

    /// Whether all is merged.
    pub(super) fn is_over(&self) -> bool {
        self.position == Reach::End
    }

    /// The key after which pages are asked for.
    pub(super) const fn after(&self) -> Option<KeyId> {
        match self.position {
            Reach::To(after) => after,
            Reach::End => None,
        }
    }

    /// Nodes of which the next page is needed: they have shown nothing beyond what is merged.
    pub(super) fn wanting(&self) -> Vec<NodeId> {
        let wants = |(_, cursor): &(&NodeId, &Cursor)| cursor.reach <= self.position;
        self.cursors.iter().filter(wants).map(|(node, _)| *node).collect()
    }

    /// How many nodes have shown something beyond what is merged, or that there is nothing.
    pub(super) fn ahead(&self) -> usize {
        self.cursors.values().filter(|cursor| cursor.reach > self.position).count()
    }

    /// Leaves out nodes that took more pages than what they showed, and what most nodes took, can explain.
    pub(super) fn endless(&mut self) -> Vec<NodeId> {
        let mut pages: Vec<usize> = self.cursors.values().map(|cursor| cursor.pages).collect();
        pages.sort_unstable();
        // At least one honest node took so many, where no more than the others lie or are away.
        let usual = pages.get(self.most.saturating_sub(1)).copied().unwrap_or_default();
        let usual = PAGES_MORE + usual.saturating_mul(2).min(BARREN_PAGES);
        let endless = |cursor: &Cursor| {
            let by_keys = cursor.verified / KEYS_FOR_A_PAGE + cursor.heavy.min(cursor.verified);
            // Of others it is not known yet what verifies.
            let asked = cursor.reach <= self.position;
            asked && cursor.pages >= MAX_PAGES.min(usual.saturating_add(by_keys))
        };
        let nodes: Vec<NodeId> =
            self.cursors.iter().filter(|(_, c)| endless(c)).map(|(node, _)| *node).collect();
        for node in &nodes {
            self.cursors.remove(node);
        }
        nodes
    }

    /// Takes a page of a node that was asked for what is after what is merged. A node whose page is none is left out.
    pub(super) fn take(&mut self, node: NodeId, page: ListKeysReply) -> Result<(), &'static str> {
        let result = self.page(node, page);
        if result.is_err() {
            self.cursors.remove(&node);
        }
        result
    }

    fn page(&mut self, node: NodeId, page: ListKeysReply) -> Result<(), &'static str> {
        let after = self.after();
        let Some(cursor) = self.cursors.get_mut(&node) else { return Ok(()) };
        if page.keys.len() > KEYS_PER_PAGE {
            return Err("a page of more keys than fit one");
        }
        let next = match page.next.as_slice() {
            [] => None,
            next => {
                let next = KeyId::from_slice(next).map_err(|_| "a page that ends at no key")?;
                Some(next)
            }
        };
        if next.is_some() && next <= after {
            return Err("a page of keys that does not lead on");
        }
        let heavy = page.encoded_len() >= HEAVY_PAGE;
        let (mut views, mut last) = (VecDeque::with_capacity(page.keys.len()), after);
        for view in page.keys {
            let id = KeyId::from_slice(&view.id).map_err(|_| "a key without an id")?;
            if Some(id) <= last {
                return Err("keys out of order");
            }
            if next.is_some_and(|next| id > next) {
                return Err("a key beyond the end of its page");
            }
            last = Some(id);
            views.push_back((id, view));
        }
        cursor.views = views;
        cursor.reach = next.map_or(Reach::End, |next| Reach::To(Some(next)));
        cursor.pages += 1;
        cursor.heavy += usize::from(heavy);
        Ok(())
    }

    /// The keys up to where all nodes that are ahead have shown all that they have; nothing where these are too few.
    pub(super) fn step(&mut self) -> Option<Shown> {
        let ahead = self.cursors.values().map(|cursor| cursor.reach);
        let ahead: Vec<Reach> = ahead.filter(|reach| *reach > self.position).collect();
        if ahead.len() < self.most {
            return None;
        }
        let position = ahead.into_iter().min()?;
        let mut shown = Shown::new();
        for (node, cursor) in &mut self.cursors {
            while let Some((id, view)) = cursor.views.pop_front() {
                if Reach::To(Some(id)) > position {
                    cursor.views.push_front((id, view));
                    break;
                }
                shown.entry(id).or_default().push((*node, vec![view]));
            }
        }
        self.position = position;
        Some(shown)
    }

    /// A key that these nodes showed verifies.
    pub(super) fn verified(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        for node in nodes {
            if let Some(cursor) = self.cursors.get_mut(&node) {
                cursor.verified += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId::from_bytes([number; 16])
    }

    fn key(number: u32) -> KeyId {
        let mut bytes = [0; 32];
        bytes[28..].copy_from_slice(&number.to_be_bytes());
        KeyId::from_bytes(bytes)
    }

    fn view(number: u32) -> KeyView {
        KeyView { id: key(number).as_bytes().to_vec(), ..KeyView::default() }
    }

    /// A page of an honest node that has these keys, so many at once.
    fn honest(has: &[u32], after: Option<KeyId>, at_once: usize) -> ListKeysReply {
        let rest: Vec<u32> = has.iter().copied().filter(|n| Some(key(*n)) > after).collect();
        let keys = rest.iter().take(at_once).map(|n| view(*n)).collect();
        let next = rest.get(at_once - 1).map(|last| key(*last).as_bytes().to_vec());
        ListKeysReply { keys, next: next.unwrap_or_default() }
    }

    /// The keys with how many showed each, how often each node was asked, and who was left out.
    type Merged = (Vec<(KeyId, usize)>, BTreeMap<NodeId, usize>, Vec<NodeId>);

    /// Merges to the end.
    fn run(
        merge: &mut Merge,
        mut ask: impl FnMut(NodeId, Option<KeyId>) -> Option<ListKeysReply>,
    ) -> Option<Merged> {
        let (mut found, mut asked) = (Vec::new(), BTreeMap::new());
        let mut left_out = Vec::new();
        while !merge.is_over() {
            left_out.extend(merge.endless());
            let after = merge.after();
            for node in merge.wanting() {
                *asked.entry(node).or_default() += 1;
                if let Some(page) = ask(node, after)
                    && merge.take(node, page).is_err()
                {
                    left_out.push(node);
                }
            }
            for (id, views) in merge.step()? {
                merge.verified(views.iter().map(|(node, _)| *node));
                found.push((id, views.len()));
            }
        }
        Some((found, asked, left_out))
    }

    /// However the pages of nodes are cut, and whoever lacks what, each key comes once, in order, with all who show it.
    #[test]
    fn every_key_comes_once_with_all_who_show_it() {
        let all: Vec<u32> = (1..=500).collect();
        let some =
            |by: u32| all.iter().copied().filter(|n| !n.is_multiple_of(by)).collect::<Vec<_>>();
        for sizes in [[64, 64, 64], [64, 7, 13], [8, 64, 64]] {
            let has = [all.clone(), some(2), some(3)];
            let mut merge = Merge::new((0..3).map(node), 2);
            let (found, asked, left_out) = run(&mut merge, |of, after| {
                let at = usize::from(of.as_bytes()[0]);
                Some(honest(&has[at], after, sizes[at]))
            })
            .unwrap();
            let shows = |n: u32, by| usize::from(!n.is_multiple_of(by));
            let expected = |n: u32| 1 + shows(n, 2) + shows(n, 3);
            let expected: Vec<_> = all.iter().map(|n| (key(*n), expected(*n))).collect();
            assert_eq!(found, expected, "{sizes:?}");
            assert_eq!(left_out, []);
            for (of, asked) in asked {
                let at = usize::from(of.as_bytes()[0]);
                assert!(asked <= has[at].len() / sizes[at] + 1, "{sizes:?}: {asked}");
            }
        }
    }

    /// A node that is away for some pages takes part in the others, and is no liar for it.
    #[test]
    fn a_node_that_is_away_for_a_while_is_asked_again() {
        let all: Vec<u32> = (1..=640).collect();
        let mut merge = Merge::new((0..3).map(node), 2);
        let mut times = 0;
        let (found, asked, left_out) = run(&mut merge, |of, after| {
            times += usize::from(of == node(2));
            (of != node(2) || times % 2 == 0).then(|| honest(&all, after, 64))
        })
        .unwrap();
        assert_eq!(found.len(), 640);
        assert!(found.iter().any(|(_, by)| *by == 3) && found.iter().any(|(_, by)| *by == 2));
        assert_eq!((asked[&node(0)], left_out), (11, vec![]));
    }

    /// The ways to lead nowhere: each costs a few pages of that node, and no key. Fails where a node's pages are not
    /// counted.
    #[test]
    fn a_node_that_leads_nowhere_is_left_out() {
        let all: Vec<u32> = (1..=128).collect();
        let one_more = |after: Option<KeyId>| {
            let mut bytes = *after.unwrap_or(key(0)).as_bytes();
            let _ = bytes.iter_mut().rev().any(|byte| {
                *byte = byte.wrapping_add(1);
                *byte != 0
            });
            KeyId::from_bytes(bytes)
        };
        let ways: [&dyn Fn(Option<KeyId>) -> ListKeysReply; 4] = [
            &|after| ListKeysReply { keys: vec![], next: one_more(after).as_bytes().to_vec() },
            &|after| ListKeysReply {
                keys: vec![],
                next: after.unwrap_or(key(0)).as_bytes().to_vec(),
            },
            &|_| ListKeysReply { keys: vec![view(70), view(60)], next: vec![] },
            &|_| ListKeysReply { keys: vec![view(70)], next: key(60).as_bytes().to_vec() },
        ];
        for (number, lie) in ways.into_iter().enumerate() {
            let mut merge = Merge::new((0..3).map(node), 2);
            let (found, asked, left_out) = run(&mut merge, |of, after| {
                Some(if of == node(1) { lie(after) } else { honest(&all, after, 64) })
            })
            .unwrap();
            let ids: Vec<KeyId> = found.iter().map(|(id, _)| *id).collect();
            assert_eq!(ids, all.iter().map(|n| key(*n)).collect::<Vec<_>>(), "{number}");
            assert_eq!(left_out, [node(1)], "{number}");
            assert!(asked[&node(1)] <= PAGES_MORE + 2 * 3, "{number}: {asked:?}");
            // Two of three are too many.
            let mut merge = Merge::new((0..3).map(node), 2);
            let too_few = run(&mut merge, |of, after| {
                Some(if of == node(2) { honest(&all, after, 64) } else { lie(after) })
            });
            assert!(too_few.is_none(), "{number}");
        }
    }

    /// Keys that were left out by the administrators are stored still, and a node goes through them by pages without
    /// keys: nobody is accused for that. Nor is a node that alone has many keys.
    #[test]
    fn pages_of_keys_that_count_no_more_are_no_lie() {
        let all: Vec<u32> = (1..=40_000).collect();
        let mut merge = Merge::new((0..3).map(node), 2);
        let (found, _, left_out) = run(&mut merge, |_, after| {
            let page = honest(&all, after, 64);
            Some(ListKeysReply { keys: Vec::new(), ..page })
        })
        .unwrap();
        assert_eq!((found, left_out), (vec![], vec![]));
        let mut merge = Merge::new((0..3).map(node), 2);
        let (found, _, left_out) = run(&mut merge, |of, after| {
            Some(honest(if of == node(0) { &all } else { &[] }, after, 64))
        })
        .unwrap();
        assert_eq!((found.len(), left_out), (40_000, vec![]));
    }
}
