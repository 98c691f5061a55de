//! Who of the participants has answered the present step.

use quorate_documents::Member;
use quorate_types::NodeId;

use super::message::{Request, Send};
use crate::failure::Failure;

/// How often one request is sent at most: methods are idempotent, and a lost packet should not cost
/// one of the order's few attempts.
pub(super) const MAX_TRIES: u32 = 3;

enum Entry<T> {
    /// To be sent; tried so often before.
    Due {
        tries: u32,
    },
    /// Sent and not answered; tried so often, this time included.
    Sent {
        tries: u32,
    },
    Answered(T),
    /// Will not answer any more.
    Lost,
}

/// One entry for each participant, in the order of indices.
pub(super) struct Roll<T>(Vec<(NodeId, Entry<T>)>);

impl<T> Roll<T> {
    pub(super) fn new(members: &[Member]) -> Self {
        Self::of(members.iter().map(|member| member.node))
    }

    pub(super) fn of(nodes: impl IntoIterator<Item = NodeId>) -> Self {
        Self(nodes.into_iter().map(|node| (node, Entry::Due { tries: 0 })).collect())
    }

    /// The requests that are to be sent now; they count as sent. `request` is told the recipient's position
    /// and the bytes of its node id.
    pub(super) fn ask<R>(
        &mut self,
        mut request: impl FnMut(usize, Vec<u8>) -> R,
    ) -> Vec<(NodeId, R)> {
        let mut asked = Vec::new();
        for (position, (node, entry)) in self.0.iter_mut().enumerate() {
            if let Entry::Due { tries } = *entry {
                *entry = Entry::Sent { tries: tries + 1 };
                asked.push((*node, request(position, node.as_bytes().to_vec())));
            }
        }
        asked
    }

    /// The same, as requests of a DKG.
    pub(super) fn send(&mut self, request: impl FnMut(usize, Vec<u8>) -> Request) -> Vec<Send> {
        self.ask(request).into_iter().map(|(node, request)| Send { node, request }).collect()
    }

    /// The position of a node whose answer is awaited.
    pub(super) fn awaited(&self, node: NodeId) -> Option<usize> {
        self.0.iter().position(|(of, entry)| *of == node && matches!(entry, Entry::Sent { .. }))
    }

    pub(super) fn answer(&mut self, position: usize, answer: T) {
        if let Some((_, entry)) = self.0.get_mut(position) {
            *entry = Entry::Answered(answer);
        }
    }

    pub(super) fn lose(&mut self, position: usize) {
        if let Some((_, entry)) = self.0.get_mut(position) {
            *entry = Entry::Lost;
        }
    }

    /// Takes a failure: sends again where that may help; `true` where this node is now lost.
    pub(super) fn on_failure(&mut self, node: NodeId, failure: &Failure) -> bool {
        let Some((_, entry)) = self.awaited(node).and_then(|p| self.0.get_mut(p)) else {
            return false;
        };
        match *entry {
            Entry::Sent { tries } if failure.may_pass() && tries < MAX_TRIES => {
                *entry = Entry::Due { tries };
                false
            }
            _ => {
                *entry = Entry::Lost;
                true
            }
        }
    }

    /// Gives up on everybody who has not answered, and names them.
    pub(super) fn give_up(&mut self) -> Vec<NodeId> {
        let mut silent = Vec::new();
        for (node, entry) in &mut self.0 {
            if matches!(entry, Entry::Due { .. } | Entry::Sent { .. }) {
                *entry = Entry::Lost;
                silent.push(*node);
            }
        }
        silent
    }

    /// Whether nothing more can come.
    pub(super) fn is_settled(&self) -> bool {
        self.0.iter().all(|(_, entry)| matches!(entry, Entry::Answered(_) | Entry::Lost))
    }

    /// Everybody's answers in the order of indices, where everybody has answered.
    pub(super) fn complete(self) -> Option<Vec<T>> {
        self.0
            .into_iter()
            .map(|(_, entry)| match entry {
                Entry::Answered(answer) => Some(answer),
                Entry::Due { .. } | Entry::Sent { .. } | Entry::Lost => None,
            })
            .collect()
    }

    /// Who has not answered.
    pub(super) fn unanswered(&self) -> impl Iterator<Item = NodeId> {
        let answered = |entry: &Entry<T>| matches!(entry, Entry::Answered(_));
        self.0.iter().filter(move |(_, entry)| !answered(entry)).map(|(node, _)| *node)
    }

    /// Who has answered, with the answers.
    pub(super) fn answered(&self) -> impl Iterator<Item = (NodeId, &T)> {
        self.0.iter().filter_map(|(node, entry)| match entry {
            Entry::Answered(answer) => Some((*node, answer)),
            Entry::Due { .. } | Entry::Sent { .. } | Entry::Lost => None,
        })
    }
}
