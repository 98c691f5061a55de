//! Making a key while nodes are away.

use quorate_documents::Order;
use quorate_types::NodeId;
use quorate_wire::proto::v1;

use crate::client::{Answered, Client, NodeFailure};
use crate::error::{Error, NotQuorate, RequestError};
use crate::transport::{Method, Unreachable};

impl Client {
    /// Those of a node list that give no answer, and why.
    async fn away(&self, nodes: &[NodeId]) -> Vec<(NodeId, Unreachable)> {
        let request = |_| v1::InfoRequest {};
        let answers = self.ask(nodes, Method::Info, request, nodes.len()).await;
        let away = answers.into_iter().filter_map(|(node, answer)| {
            let answer: Result<Answered<v1::InfoReply>, NodeFailure> = answer;
            match answer {
                Err(NodeFailure::Unreachable(unreachable)) => Some((node, unreachable)),
                // One that says no is there, and says so again in the ceremony.
                Ok(_) | Err(NodeFailure::Refused(_)) => None,
            }
        });
        away.collect()
    }

    /// An order by which those make the key that answer now; the others come in by the first reshare.
    ///
    /// # Errors
    /// [`NotQuorate`] where fewer answer than T, or than the key's minimum committee.
    pub(crate) async fn without_absent(&self, order: Order, minimum: u32) -> Result<Order, Error> {
        let members: Vec<NodeId> = order.members().iter().map(|member| member.node).collect();
        let away = self.away(&members).await;
        if away.is_empty() {
            return Ok(order);
        }
        let of = members.len();
        let answered = of.saturating_sub(away.len());
        let minimum = usize::try_from(minimum).unwrap_or(usize::MAX);
        let needed = minimum.max(order.threshold().t().into());
        let (absent, unreachable): (Vec<NodeId>, Vec<Unreachable>) = away.into_iter().unzip();
        if answered < needed {
            let (refused, wrong) = (Vec::new(), Vec::new());
            let operation = "make the key";
            let error = NotQuorate { operation, needed, of, answered, unreachable, refused, wrong };
            return Err(error.into_error());
        }
        order.with_entering(&absent).map_err(|e| RequestError::Invalid(e.to_string()).into())
    }
}
